"""Declare the Linux calls of lowconmon._ffi and compile their C shims.

Laws: a shim returns a value >= 0 or -errno and holds no policy; no kernel number is typed here,
the compiler fills each `#define NAME ...`; what old headers lack stands in the one #ifndef block.
`python3 build_ffi.py` compiles the extension beside the package; setuptools does it by setup.py.
"""

from cffi import FFI

CONSTANTS = """
EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
SIGCHLD SIGCONT SIGHUP SIGINT SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTERM SIGUSR1 SIGUSR2 SIGWINCH
SIGXFSZ SIG_BLOCK SIG_UNBLOCK SIG_SETMASK NSIG
AF_UNIX SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET SOCK_NONBLOCK SOCK_CLOEXEC
MSG_DONTWAIT MSG_NOSIGNAL MSG_CTRUNC MSG_TRUNC
IN_CREATE IN_MODIFY IN_MOVED_FROM IN_MOVED_TO IN_DELETE IN_DELETE_SELF IN_ATTRIB IN_CLOSE_WRITE
IN_IGNORED IN_NONBLOCK IN_CLOEXEC
F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS
F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE
CLOSE_RANGE_CLOEXEC ONLCR LC_SUN_PATH_MAX
""".split()

SPAWN = """
struct lc_spawn {
    int stdio[3];
    int terminal;
    int new_session;
    int death_signal;
    int wait_fd;
    int listen_pid_index;
    char *oom_score_adj;
    char *cwd;
    int *blocked;
    int blocked_count;
    int *ignored;
    int ignored_count;
    int *defaulted;
    int defaulted_count;
};
"""

FUNCTIONS = """
int lc_epoll_create1(void);
int lc_epoll_ctl(int epoll_fd, int operation, int fd, uint32_t events, uint64_t data);
int lc_epoll_wait(int epoll_fd, uint64_t *pairs, int room, int timeout_ms);
int lc_signalfd(const int *signals, int count);
int lc_read_signal(int fd);
int lc_sigprocmask(int how, const int *signals, int count, int *old_signals);
int lc_get_disposition(int signal);
int lc_set_disposition(int signal, int ignore);
int lc_pidfd_open(int pid);
int lc_pidfd_send_signal(int pidfd, int signal);
int lc_pidfd_get_info(int pidfd, int *exit_code);
int lc_set_child_subreaper(int on);
int lc_get_child_subreaper(void);
int lc_set_pdeathsig(int signal);
int lc_set_name(const char *name);
int lc_openpty(int fds[2]);
int lc_get_oflag(int fd, unsigned int *flags);
int lc_set_oflag(int fd, unsigned int flags);
int lc_set_winsize(int fd, int rows, int columns);
int lc_get_winsize(int fd, int sizes[2]);
int lc_socket(int family, int type);
int lc_socketpair(int family, int type, int fds[2]);
int lc_bind(int fd, const char *path, size_t length);
int lc_connect(int fd, const char *path, size_t length);
int lc_listen(int fd, int backlog);
int lc_accept4(int fd, int flags);
int lc_shutdown(int fd);
int lc_peer_uid(int fd, uint32_t *uid);
int64_t lc_send(int fd, const char *data, size_t length, int flags);
int64_t lc_send_fds(int fd, const char *data, size_t length, const int *fds, int count, int flags);
int64_t lc_recv_fds(int fd, char *data, size_t length, int *fds, int *count, int *flags);
int lc_sendmmsg(int fd, char **parts, size_t *lengths, int *parts_each, int count, int flags);
int lc_inotify_init1(int flags);
int lc_inotify_add_watch(int fd, const char *path, uint32_t mask);
int lc_inotify_rm_watch(int fd, int watch);
int lc_inotify_next(const char *data, size_t length, int *watch, uint32_t mask_cookie_name[4]);
int lc_fcntl(int fd, int command, int argument);
int lc_close_range(unsigned int first, unsigned int last, unsigned int flags);
int lc_spawn(const char *path, char **argv, char **envp, struct lc_spawn *how, int *error_fd);
"""

SHIMS = r"""
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

/* What the headers of Debian 12 (Linux 6.1, glibc 2.36) lack. */
#ifndef PIDFD_GET_INFO
struct pidfd_info { /* linux/pidfd.h, Linux 6.15: PIDFD_INFO_SIZE_VER0 and exit_code */
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info) /* Linux 6.13 */
#define PIDFD_INFO_EXIT (1UL << 3) /* Linux 6.15 */
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2) /* linux/close_range.h, Linux 5.11 */
#endif
#define LC_SUN_PATH_MAX ((int)sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

_Static_assert(sizeof(pid_t) == sizeof(int), "pids are passed as int");
_Static_assert(sizeof(tcflag_t) == sizeof(unsigned int), "terminal flags are passed as unsigned");

#define CHECKED(call) \
    do { int result_ = (int)(call); return result_ < 0 ? -errno : result_; } while (0)


static int lc_epoll_create1(void) { CHECKED(epoll_create1(EPOLL_CLOEXEC)); }

static int lc_epoll_ctl(int epoll_fd, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    CHECKED(epoll_ctl(epoll_fd, operation, fd, &event));
}

static int lc_epoll_wait(int epoll_fd, uint64_t *pairs, int room, int timeout_ms)
{
    struct epoll_event events[64];
    int i, count = epoll_wait(epoll_fd, events, room < 64 ? room : 64, timeout_ms);
    if (count < 0)
        return -errno;
    for (i = 0; i < count; i++) {
        pairs[2 * i] = events[i].events;
        pairs[2 * i + 1] = events[i].data.u64;
    }
    return count;
}

static int lc_fill(sigset_t *set, const int *signals, int count)
{
    sigemptyset(set);
    while (count-- > 0)
        if (sigaddset(set, signals[count]) < 0)
            return -errno;
    return 0;
}

static int lc_signalfd(const int *signals, int count)
{
    sigset_t set;
    if (lc_fill(&set, signals, count) < 0)
        return -EINVAL;
    CHECKED(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

static int lc_read_signal(int fd)
{
    struct signalfd_siginfo info;
    ssize_t got = read(fd, &info, sizeof info);
    if (got < 0)
        return -errno;
    return got == sizeof info ? (int)info.ssi_signo : -EIO;
}

static int lc_sigprocmask(int how, const int *signals, int count, int *old_signals)
{
    sigset_t set, old;
    int number, found = 0;
    if (lc_fill(&set, signals, count) < 0)
        return -EINVAL;
    if (sigprocmask(how, &set, &old) < 0)
        return -errno;
    for (number = 1; number < NSIG; number++)
        if (sigismember(&old, number) == 1)
            old_signals[found++] = number;
    return found;
}

/* 0: default, 1: ignored, 2: a handler */
static int lc_get_disposition(int signal)
{
    struct sigaction action;
    if (sigaction(signal, NULL, &action) < 0)
        return -errno;
    if (action.sa_flags & SA_SIGINFO)
        return 2;
    return action.sa_handler == SIG_DFL ? 0 : action.sa_handler == SIG_IGN ? 1 : 2;
}

static int lc_set_disposition(int signal, int ignore)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore ? SIG_IGN : SIG_DFL;
    CHECKED(sigaction(signal, &action, NULL));
}

static int lc_pidfd_open(int pid) { CHECKED(syscall(SYS_pidfd_open, pid, 0)); }

static int lc_pidfd_send_signal(int pidfd, int signal)
{
    CHECKED(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

/* 1 when exit_code was filled, 0 when the process has not been reaped yet. */
static int lc_pidfd_get_info(int pidfd, int *exit_code)
{
    struct pidfd_info info;
    memset(&info, 0, sizeof info);
    info.mask = PIDFD_INFO_EXIT;
    if (ioctl(pidfd, PIDFD_GET_INFO, &info) < 0)
        return errno == ENOTTY || errno == EINVAL ? -ENOSYS : -errno;
    *exit_code = info.exit_code;
    return (info.mask & PIDFD_INFO_EXIT) != 0;
}

static int lc_set_child_subreaper(int on) { CHECKED(prctl(PR_SET_CHILD_SUBREAPER, on, 0, 0, 0)); }

static int lc_get_child_subreaper(void)
{
    int on = 0;
    return prctl(PR_GET_CHILD_SUBREAPER, &on, 0, 0, 0) < 0 ? -errno : on;
}

static int lc_set_pdeathsig(int signal) { CHECKED(prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)); }

static int lc_set_name(const char *name) { CHECKED(prctl(PR_SET_NAME, name, 0, 0, 0)); }

static int lc_openpty(int fds[2])
{
    int error;
    fds[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fds[0] < 0)
        return -errno;
    fds[1] = unlockpt(fds[0]) < 0 ? -1
             : ioctl(fds[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fds[1] >= 0)
        return 0;
    error = errno;
    close(fds[0]);
    return -error;
}

static int lc_get_oflag(int fd, unsigned int *flags)
{
    struct termios attributes;
    if (tcgetattr(fd, &attributes) < 0)
        return -errno;
    *flags = attributes.c_oflag;
    return 0;
}

static int lc_set_oflag(int fd, unsigned int flags)
{
    struct termios attributes;
    if (tcgetattr(fd, &attributes) < 0)
        return -errno;
    attributes.c_oflag = flags;
    CHECKED(tcsetattr(fd, TCSANOW, &attributes));
}

static int lc_set_winsize(int fd, int rows, int columns)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    CHECKED(ioctl(fd, TIOCSWINSZ, &size));
}

static int lc_get_winsize(int fd, int sizes[2])
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        return -errno;
    sizes[0] = size.ws_row;
    sizes[1] = size.ws_col;
    return 0;
}

static int lc_socket(int family, int type) { CHECKED(socket(family, type | SOCK_CLOEXEC, 0)); }

static int lc_socketpair(int family, int type, int fds[2])
{
    CHECKED(socketpair(family, type | SOCK_CLOEXEC, 0, fds));
}

/* A path that starts with NUL is abstract; another gets its NUL counted, as unix(7) wants. */
static socklen_t lc_address(struct sockaddr_un *address, const char *path, size_t length)
{
    if (length == 0 || length > (size_t)LC_SUN_PATH_MAX)
        return 0;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] != 0));
}

static int lc_bind(int fd, const char *path, size_t length)
{
    struct sockaddr_un address;
    socklen_t size = lc_address(&address, path, length);
    if (size == 0)
        return -ENAMETOOLONG;
    CHECKED(bind(fd, (struct sockaddr *)&address, size));
}

static int lc_connect(int fd, const char *path, size_t length)
{
    struct sockaddr_un address;
    socklen_t size = lc_address(&address, path, length);
    if (size == 0)
        return -ENAMETOOLONG;
    CHECKED(connect(fd, (struct sockaddr *)&address, size));
}

static int lc_listen(int fd, int backlog) { CHECKED(listen(fd, backlog)); }

static int lc_accept4(int fd, int flags)
{
    CHECKED(accept4(fd, NULL, NULL, flags | SOCK_CLOEXEC));
}

static int lc_shutdown(int fd) { CHECKED(shutdown(fd, SHUT_RDWR)); }

static int lc_peer_uid(int fd, uint32_t *uid)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    *uid = peer.uid;
    return 0;
}

static int64_t lc_send(int fd, const char *data, size_t length, int flags)
{
    ssize_t sent = send(fd, data, length, flags | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

#define LC_MAX_FDS 253 /* SCM_MAX_FD of the kernel */
union lc_control {
    struct cmsghdr align;
    char room[CMSG_SPACE(LC_MAX_FDS * sizeof(int))];
};

static int64_t lc_send_fds(int fd, const char *data, size_t length, const int *fds, int count,
                           int flags)
{
    union lc_control control;
    struct iovec vector = {.iov_base = (void *)data, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    ssize_t sent;
    if (count < 0 || count > LC_MAX_FDS)
        return -EINVAL;
    if (count > 0) {
        struct cmsghdr *header;
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
    }
    sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

/* *count: room for descriptors in, how many came out; what came beyond the room is closed. */
static int64_t lc_recv_fds(int fd, char *data, size_t length, int *fds, int *count, int *flags)
{
    union lc_control control;
    struct iovec vector = {.iov_base = data, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header;
    int room = *count;
    ssize_t got = recvmsg(fd, &message, *flags | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return -errno; /* *count stays: EINTR comes here again */
    *count = 0;
    for (header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        size_t i, n;
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < n; i++) {
            int received;
            memcpy(&received, CMSG_DATA(header) + i * sizeof(int), sizeof received);
            if (*count < room)
                fds[(*count)++] = received;
            else
                close(received);
        }
    }
    *flags = message.msg_flags;
    return got;
}

static int lc_sendmmsg(int fd, char **parts, size_t *lengths, int *parts_each, int count, int flags)
{
    enum { MESSAGES = 64, VECTORS = 128 };
    struct mmsghdr messages[MESSAGES];
    struct iovec vectors[VECTORS];
    int i, j, used = 0;
    memset(messages, 0, sizeof messages);
    for (i = 0; i < count && i < MESSAGES && used + parts_each[i] <= VECTORS; i++) {
        messages[i].msg_hdr.msg_iov = vectors + used;
        messages[i].msg_hdr.msg_iovlen = (size_t)parts_each[i];
        for (j = 0; j < parts_each[i]; j++, used++) {
            vectors[used].iov_base = parts[used];
            vectors[used].iov_len = lengths[used];
        }
    }
    if (i == 0 && count > 0)
        return -EMSGSIZE;
    CHECKED(sendmmsg(fd, messages, (unsigned int)i, flags | MSG_NOSIGNAL));
}

static int lc_inotify_init1(int flags) { CHECKED(inotify_init1(flags)); }

static int lc_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    CHECKED(inotify_add_watch(fd, path, mask));
}

static int lc_inotify_rm_watch(int fd, int watch) { CHECKED(inotify_rm_watch(fd, watch)); }

/* Bytes taken by the first event of data; its name stands after the fixed part. */
static int lc_inotify_next(const char *data, size_t length, int *watch,
                           uint32_t mask_cookie_name[4])
{
    struct inotify_event event;
    if (length < sizeof event)
        return 0;
    memcpy(&event, data, sizeof event);
    if (length - sizeof event < event.len)
        return 0;
    *watch = event.wd;
    mask_cookie_name[0] = event.mask;
    mask_cookie_name[1] = event.cookie;
    mask_cookie_name[2] = (uint32_t)sizeof event;
    mask_cookie_name[3] = (uint32_t)strnlen(data + sizeof event, event.len);
    return (int)(sizeof event + event.len);
}

static int lc_fcntl(int fd, int command, int argument) { CHECKED(fcntl(fd, command, argument)); }

static int lc_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
    CHECKED(syscall(SYS_close_range, first, last, flags));
}

static int lc_prepare_stdio(const struct lc_spawn *how)
{
    int i, from[3];
    for (i = 0; i < 3; i++) {
        from[i] = how->terminal >= 0 ? how->terminal : how->stdio[i];
        /* A source below 3 would be overwritten before its turn. */
        if (from[i] >= 0 && from[i] < 3 && from[i] != i)
            if ((from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3)) < 0)
                return -1;
    }
    for (i = 0; i < 3; i++) {
        if (from[i] < 0)
            continue;
        if (from[i] == i ? fcntl(i, F_SETFD, 0) < 0 : dup2(from[i], i) < 0)
            return -1;
    }
    return 0;
}

/* The forked child up to exec: async-signal-safe calls only; returns only after a failure. */
static void lc_child(const char *path, char **argv, char **envp, struct lc_spawn *how,
                     pid_t parent)
{
    struct sigaction action;
    sigset_t blocked;
    char listen_pid[32], byte[8192];
    int i;
    if (how->new_session)
        setsid(); /* a leader already: fine */
    if (lc_prepare_stdio(how) < 0)
        return;
    if (how->terminal >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
        return;
    if (how->oom_score_adj) {
        /* advisory: a failure leaves the score as it is */
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
            ssize_t ignored = write(fd, how->oom_score_adj, strlen(how->oom_score_adj));
            (void)ignored;
            close(fd);
        }
    }
    if (how->listen_pid_index >= 0) {
        snprintf(listen_pid, sizeof listen_pid, "LISTEN_PID=%d", (int)getpid());
        envp[how->listen_pid_index] = listen_pid;
    }
    if (how->death_signal) {
        if (prctl(PR_SET_PDEATHSIG, how->death_signal, 0, 0, 0) < 0)
            return;
        if (getppid() != parent) /* the parent died before the request stood */
            raise(how->death_signal);
    }
    if (how->cwd && chdir(how->cwd) < 0)
        return;
    memset(&action, 0, sizeof action);
    for (i = 0; i < how->defaulted_count; i++)
        sigaction(how->defaulted[i], &action, NULL);
    action.sa_handler = SIG_IGN;
    for (i = 0; i < how->ignored_count; i++)
        sigaction(how->ignored[i], &action, NULL);
    if (lc_fill(&blocked, how->blocked, how->blocked_count) < 0)
        return;
    if (sigprocmask(SIG_SETMASK, &blocked, NULL) < 0)
        return;
    if (how->wait_fd >= 0)
        while (read(how->wait_fd, byte, sizeof byte) < 0)
            if (errno != EINTR)
                return;
    execve(path, argv, envp);
}

static int lc_spawn(const char *path, char **argv, char **envp, struct lc_spawn *how,
                    int *error_fd)
{
    int pipe_fds[2], error;
    pid_t parent = getpid(), pid;
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    /* With 0-2 closed in the caller the pipe could lie where the child's stdio goes. */
    for (error = 0; error < 2; error++)
        if (pipe_fds[error] < 3) {
            int moved = fcntl(pipe_fds[error], F_DUPFD_CLOEXEC, 3);
            if (moved < 0) {
                moved = -errno;
                close(pipe_fds[0]);
                close(pipe_fds[1]);
                return moved;
            }
            close(pipe_fds[error]);
            pipe_fds[error] = moved;
        }
    pid = fork();
    if (pid == 0) {
        lc_child(path, argv, envp, how, parent);
        error = errno;
        if (write(pipe_fds[1], &error, sizeof error) < 0)
            _exit(126);
        _exit(127);
    }
    error = errno;
    close(pipe_fds[1]);
    if (pid < 0) {
        close(pipe_fds[0]);
        return -error;
    }
    *error_fd = pipe_fds[0];
    return (int)pid;
}
"""

ffi = FFI()
ffi.cdef("".join(f"#define {name} ...\n" for name in CONSTANTS) + SPAWN + FUNCTIONS)
ffi.set_source(
    "lowconmon._ffi",
    SPAWN + SHIMS,
    depends=["build_ffi.py"],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
