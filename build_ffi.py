"""Compile the Linux calls of lowconmon._ffi: constants, and C shims that begin with lc_.

Laws: a shim returns a value >= 0 or -errno and holds no policy; no kernel number is typed here,
the compiler fills each `#define NAME ...`; what old headers lack stands in the one #ifndef block.
`python3 build_ffi.py` compiles the extension beside the package; setuptools does it by setup.py.
"""

import re  # noqa: TID253 - this runs when the package is built, not with it

from cffi import FFI

CONSTANTS = """
EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
SIGCHLD SIGCONT SIGHUP SIGINT SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTERM SIGUSR1 SIGUSR2 SIGWINCH
SIGXFSZ SIG_BLOCK SIG_UNBLOCK SIG_SETMASK NSIG
AF_UNIX SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET SOCK_NONBLOCK SUN_PATH_MAX SCM_MAX_FD
MSG_DONTWAIT MSG_CTRUNC MSG_TRUNC CLOSE_RANGE_CLOEXEC ONLCR
IN_CREATE IN_MODIFY IN_MOVED_FROM IN_MOVED_TO IN_DELETE IN_DELETE_SELF IN_ATTRIB IN_CLOSE_WRITE
IN_IGNORED F_SETPIPE_SZ F_GETPIPE_SZ
F_ADD_SEALS F_GET_SEALS F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE
CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_KILL CAP_SYS_RESOURCE
M_TRIM_THRESHOLD M_MMAP_THRESHOLD M_MXFAST
""".split()

HEADERS = """
errno fcntl linux/capability linux/close_range linux/time_types malloc signal stddef stdint stdio string sys/epoll
sys/inotify sys/ioctl
sys/prctl sys/signalfd sys/socket sys/syscall sys/time sys/uio sys/un sys/wait termios unistd
""".split()

STRUCTS = """
struct inotify_event { int wd; uint32_t mask, cookie, len; ...; };
struct signalfd_siginfo { uint32_t ssi_signo; ...; };
"""

SHIMS = r"""
/* What the headers of Debian 12 (Linux 6.1, glibc 2.36) lack. */
#ifndef PIDFD_GET_INFO
struct pidfd_info { /* linux/pidfd.h, Linux 6.15: PIDFD_INFO_SIZE_VER0 and exit_code */
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info) /* Linux 6.13 */
#define PIDFD_INFO_EXIT (1UL << 3) /* Linux 6.15 */
#endif

#define SUN_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define SCM_MAX_FD 253 /* of one message: the kernel's name; its headers for programs lack it */

/* What this C and the Python on it take for granted: an architecture where it is not so gets no
   extension. */
#define ASSUME(what) _Static_assert(what, #what)
#define FIELD(type, name) ((type *)0)->name
#define IS_UNSIGNED_32(type) (sizeof(type) == 4 && (type)-1 > 0)

/* A result below 0 is an error: pids, user ids and flags are not. An errno comes through `spawn`'s
   pipe as 4 bytes. */
ASSUME(sizeof(int) == 4 && sizeof(pid_t) == 4 && sizeof(ssize_t) <= sizeof(int64_t));
ASSUME(IS_UNSIGNED_32(uid_t) && IS_UNSIGNED_32(tcflag_t));

/* A log may have more than 2 GiB, and a lock that F_GETLK is to find may lie behind them. Python.h,
   which comes first, asks for it (_FILE_OFFSET_BITS). */
ASSUME(sizeof(off_t) == 8 && sizeof(FIELD(struct flock, l_start)) == 8);

/* What the kernel writes, as it writes it: a read of one signal takes no byte of the next, the name
   stands behind the head of an event, and epoll's data are a serial number and a descriptor. */
ASSUME(sizeof(struct signalfd_siginfo) == 128 && sizeof(siginfo_t) == 128);
ASSUME(offsetof(struct inotify_event, name) == sizeof(struct inotify_event));
ASSUME(sizeof(FIELD(struct epoll_event, data)) == 8);

/* lowconmon/pure/processes.py */
ASSUME(CLD_EXITED == 1 && CLD_KILLED != 1 && CLD_KILLED != 3 && CLD_DUMPED == 3);
ASSUME(WIFEXITED(0xFF00) && WEXITSTATUS(0xFF00) == 0xFF && WTERMSIG(0x7F) == 0x7F);
ASSUME(WCOREFLAG == 0x80);
ASSUME(NSIG <= 0x80); /* 7 bits of a wait status; 128 + a signal is an exit code */
ASSUME((NSIG - 1 + 7) / 8 <= sizeof(sigset_t));

ASSUME(SUN_PATH_MAX == 107); /* the kernel refuses more */
ASSUME(_LINUX_CAPABILITY_U32S_3 == 2 && CAP_LAST_CAP < 64); /* lc_keep_effective's uint64_t */
ASSUME(offsetof(struct pidfd_info, exit_code) == 60);

/* The last statement of a shim */
#define CHECKED(call) \
    do { int64_t result_ = (call); return result_ < 0 ? -errno : result_; } while (0)

static int lc_epoll_create1(void) { CHECKED(epoll_create1(EPOLL_CLOEXEC)); }

static int lc_epoll_ctl(int epoll_fd, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    CHECKED(epoll_ctl(epoll_fd, operation, fd, &event));
}

/* pairs: room for 64 of events and data */
static int lc_epoll_wait(int epoll_fd, uint64_t *pairs, int timeout_ms) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll_fd, events, 64, timeout_ms);
    if (count < 0) return errno == EINTR ? 0 : -errno; /* a signal: its handlers may want a round */
    for (int i = 0; i < count; i++) {
        *pairs++ = events[i].events;
        *pairs++ = events[i].data.u64;
    }
    return count;
}

static int fill(sigset_t *set, const int *signals, int count) {
    sigemptyset(set);
    while (count-- > 0)
        if (sigaddset(set, signals[count]) < 0) return -1;
    return 0;
}

static int lc_signalfd(const int *signals, int count) {
    sigset_t set;
    if (fill(&set, signals, count) < 0) return -errno;
    CHECKED(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

/* old_signals: room for NSIG; returns how many there are */
static int lc_sigprocmask(int how, const int *signals, int count, int *old_signals) {
    sigset_t set, old;
    int found = 0;
    if (fill(&set, signals, count) < 0 || sigprocmask(how, &set, &old) < 0) return -errno;
    for (int number = 1; number < NSIG; number++)
        if (sigismember(&old, number) == 1) old_signals[found++] = number;
    return found;
}

/* 0: default, 1: ignored, 2: a handler */
static int lc_get_disposition(int signal) {
    struct sigaction action;
    if (sigaction(signal, NULL, &action) < 0) return -errno;
    return action.sa_handler == SIG_DFL ? 0 : action.sa_handler == SIG_IGN ? 1 : 2;
}

static int lc_set_disposition(int signal, int ignore) {
    struct sigaction action = {.sa_handler = ignore ? SIG_IGN : SIG_DFL};
    CHECKED(sigaction(signal, &action, NULL));
}

static int lc_pidfd_send_signal(int pidfd, int signal) {
    CHECKED(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

/* 1 when exit_code was filled, 0 when the process has not been reaped yet */
static int lc_pidfd_get_info(int pidfd, int *exit_code) {
    struct pidfd_info info = {.mask = PIDFD_INFO_EXIT};
    if (ioctl(pidfd, PIDFD_GET_INFO, &info) < 0)
        return errno == ENOTTY || errno == EINVAL ? -ENOSYS : -errno;
    *exit_code = info.exit_code;
    return (info.mask & PIDFD_INFO_EXIT) != 0;
}

/* The raw call: glibc's waitid has no rusage. The kernel's struct has old longs, whatever size time_t
   has in the C library. values: pid, uid, signo, status, code of siginfo_t, then the child's user and
   system time in microseconds and its maximum resident size in KiB; returns 0 when nobody ended. */
static int lc_waitid_rusage(int id_type, int id, int options, int64_t *values) {
    siginfo_t info = {0};
    struct {
        struct __kernel_old_timeval user, system;
        __kernel_long_t max_rss, others[13];
    } usage = {0};
    ASSUME(sizeof usage == 18 * sizeof(__kernel_long_t));
    if (syscall(SYS_waitid, id_type, id, &info, options, &usage) < 0) return -errno;
    *values++ = info.si_pid;
    *values++ = info.si_uid;
    *values++ = info.si_signo;
    *values++ = info.si_status;
    *values++ = info.si_code;
    *values++ = (int64_t)usage.user.tv_sec * 1000000 + usage.user.tv_usec;
    *values++ = (int64_t)usage.system.tv_sec * 1000000 + usage.system.tv_usec;
    *values = usage.max_rss;
    return info.si_pid != 0;
}

/* prctl(2) has variable arguments and takes longs out of them; an int has no upper half. */
static int set_process(int option, unsigned long value) {
    CHECKED(prctl(option, value, 0UL, 0UL, 0UL));
}

static int lc_set_child_subreaper(int on) {
    return set_process(PR_SET_CHILD_SUBREAPER, (unsigned long)on);
}

static int lc_get_child_subreaper(void) {
    int on = 0, result = set_process(PR_GET_CHILD_SUBREAPER, (unsigned long)&on);
    return result < 0 ? result : on;
}

static int lc_set_pdeathsig(int signal) {
    return set_process(PR_SET_PDEATHSIG, (unsigned long)signal);
}

static int lc_set_name(const char *name) { return set_process(PR_SET_NAME, (unsigned long)name); }

static int lc_keep_effective(uint64_t kept) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, sets) < 0) return -errno;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++, kept >>= 32)
        sets[i].effective &= (uint32_t)kept;
    CHECKED(syscall(SYS_capset, &header, sets));
}

static int lc_openpty(int fds[2]) {
    int error, flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    fds[0] = posix_openpt(flags);
    if (fds[0] < 0) return -errno;
    fds[1] = unlockpt(fds[0]) < 0 ? -1 : ioctl(fds[0], TIOCGPTPEER, flags);
    if (fds[1] >= 0) return 0;
    error = errno;
    close(fds[0]);
    return -error;
}

/* flags: -1 only reads them */
static int64_t lc_oflag(int fd, int64_t flags) {
    struct termios attributes;
    if (tcgetattr(fd, &attributes) < 0) return -errno;
    if (flags < 0) return attributes.c_oflag;
    attributes.c_oflag = (tcflag_t)flags;
    CHECKED(tcsetattr(fd, TCSANOW, &attributes));
}

static int lc_set_winsize(int fd, int rows, int columns) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    CHECKED(ioctl(fd, TIOCSWINSZ, &size));
}

static int lc_socket(int family, int type) { CHECKED(socket(family, type | SOCK_CLOEXEC, 0)); }

static int lc_socketpair(int family, int type, int fds[2]) {
    CHECKED(socketpair(family, type | SOCK_CLOEXEC, 0, fds));
}

/* Connects or binds. A path that starts with NUL is abstract; another gets its NUL counted, as
   unix(7) wants. */
static int lc_at_path(int connects, int fd, const char *path, size_t length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = offsetof(struct sockaddr_un, sun_path) + length + (path[0] != 0);
    if (length == 0 || length > SUN_PATH_MAX) return -ENAMETOOLONG;
    memcpy(address.sun_path, path, length);
    CHECKED((connects ? connect : bind)(fd, (struct sockaddr *)&address, (socklen_t)size));
}

static int lc_listen(int fd, int backlog) { CHECKED(listen(fd, backlog)); }
static int lc_accept4(int fd, int flags) { CHECKED(accept4(fd, NULL, NULL, flags | SOCK_CLOEXEC)); }
static int lc_shutdown(int fd) { CHECKED(shutdown(fd, SHUT_RDWR)); }

static int64_t lc_peer_uid(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return -errno;
    return peer.uid;
}

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(SCM_MAX_FD * sizeof(int))];
};

static int64_t lc_send_fds(int fd, const char *data, size_t length, const int *fds, size_t count,
                           int flags) {
    union control control;
    struct iovec vector = {.iov_base = (void *)data, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > SCM_MAX_FD) return -EINVAL;
    if (count > 0) {
        struct cmsghdr *header = &control.header;
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    CHECKED(sendmsg(fd, &message, flags | MSG_NOSIGNAL));
}

/* fds: room for SCM_MAX_FD, of which *count came; a message has one SCM_RIGHTS at most. */
static int64_t lc_recv_fds(int fd, char *data, size_t length, int *fds, int *count, int *flags) {
    union control control;
    struct iovec vector = {.iov_base = data, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_LEN(SCM_MAX_FD * sizeof(int))};
    struct cmsghdr *header;
    ssize_t got = recvmsg(fd, &message, *flags | MSG_CMSG_CLOEXEC);
    if (got < 0) return -errno;
    *flags = message.msg_flags;
    for (header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        *count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(header), (size_t)*count * sizeof(int));
    }
    return got;
}

/* Reads until there is no more, or the room is full; an error counts where nothing was read before. */
static int64_t lc_read_all(int fd, char *data, size_t size) {
    size_t done = 0;
    ssize_t got = 0;
    while (done < size && (got = read(fd, data + done, size - done)) > 0) done += (size_t)got;
    return done || got == 0 ? (int64_t)done : -errno;
}

static void on_alarm(int signal) { (void)signal; }

/* The kernel closes what was sent along, and waits for as long as its owner has made it linger, but
   for a signal: there is one each millisecond, for one may come before the wait. */
static int64_t lc_read_only_data(int fd, char *data, size_t length) {
    struct sigaction action = {.sa_handler = on_alarm}, old_action;
    struct itimerval timer = {.it_value.tv_usec = 1000, .it_interval.tv_usec = 1000}, old_timer;
    sigset_t set, old_set;
    int64_t got;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    if (sigaction(SIGALRM, &action, &old_action) < 0) return -errno;
    sigprocmask(SIG_UNBLOCK, &set, &old_set);
    setitimer(ITIMER_REAL, &timer, &old_timer);
    got = read(fd, data, length);
    if (got < 0) got = -errno;
    setitimer(ITIMER_REAL, &old_timer, NULL);
    sigprocmask(SIG_SETMASK, &old_set, NULL);
    sigaction(SIGALRM, &old_action, NULL);
    return got;
}

/* The messages stand one behind the other, 64 at most. */
static int lc_sendmmsg(int fd, const char *data, const size_t *sizes, int count, int flags) {
    struct mmsghdr messages[64] = {0};
    struct iovec parts[64];
    int sent;
    for (int i = 0; i < count; data += sizes[i++]) {
        parts[i] = (struct iovec){(void *)data, sizes[i]};
        messages[i].msg_hdr.msg_iov = parts + i;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    sent = sendmmsg(fd, messages, (unsigned int)count, flags | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

/* Lines with their newlines, but without their first skip bytes, each behind the head, 512 at most;
   returns how many bytes of them went out. An error counts where nothing was sent before it. */
static int64_t lc_send_lines(int fd, const char *data, size_t length, const char *head,
                             size_t head_size, size_t skip, int flags) {
    struct mmsghdr messages[64] = {0};
    struct iovec parts[64][2];
    const char *at = data, *end = data + length, *ends[64], *to;
    int i, sent, calls = 0;
    for (i = 0; i < 64; i++) {
        parts[i][0] = (struct iovec){(void *)head, head_size};
        messages[i].msg_hdr.msg_iov = parts[i];
        messages[i].msg_hdr.msg_iovlen = 2;
    }
    do {
        for (i = 0, to = at; i < 64 && to < end; to = ends[i++]) {
            const char *newline = memchr(to, '\n', (size_t)(end - to));
            size_t size = (size_t)((ends[i] = newline ? newline + 1 : end) - to);
            size_t left_out = skip < size ? skip : size;
            parts[i][1] = (struct iovec){(void *)(to + left_out), size - left_out};
        }
        sent = sendmmsg(fd, messages, (unsigned int)i, flags | MSG_NOSIGNAL);
        if (sent < 0) return at > data ? at - data : -errno;
        if (sent > 0) at = ends[sent - 1];
    } while (sent == 64 && at < end && ++calls < 8);
    return at - data;
}

/* Packets of the prefix and at most size bytes of the data each, as many as one sendmmsg takes;
   returns how many bytes of the data went */
static int64_t lc_send_pieces(int fd, const char *data, size_t length, const char *prefix,
                              size_t prefix_size, size_t size, int flags) {
    struct mmsghdr messages[64] = {0};
    struct iovec parts[64][2];
    size_t at = 0;
    int i, sent;
    if (size == 0) return -EINVAL;
    for (i = 0; i < 64 && at < length; i++, at += size) {
        parts[i][0] = (struct iovec){(void *)prefix, prefix_size};
        parts[i][1] = (struct iovec){(void *)(data + at), length - at < size ? length - at : size};
        messages[i].msg_hdr.msg_iov = parts[i];
        messages[i].msg_hdr.msg_iovlen = 2;
    }
    sent = sendmmsg(fd, messages, (unsigned int)i, flags | MSG_NOSIGNAL);
    return sent < 0 ? -errno : (size_t)sent * size < length ? (int64_t)(sent * size) : (int64_t)length;
}

/* Lines of the data behind `full`, the parts of one with more than limit bytes, and what has no end,
   behind `partial`, each ended by a newline; -ENOBUFS: they may need more than the room, or a head has
   more than 64 bytes. */
static int64_t lc_frame_lines(const char *data, size_t length, const char *full, const char *partial,
                              size_t head, size_t limit, char *out, size_t room) {
    const char *end = data + length;
    char *to = out, heads[2][64] = {0}; /* of a size that is copied without a call */
    if (head > sizeof heads[0]) return -ENOBUFS;
    memcpy(heads[0], partial, head);
    memcpy(heads[1], full, head);
    while (data < end) {
        size_t text = (size_t)(end - data) <= limit ? (size_t)(end - data) : limit + 1;
        const char *found = memchr(data, '\n', text);
        text = found ? (size_t)(found - data) + 1 : text > limit ? limit : text;
        if (room - (size_t)(to - out) < sizeof heads[0] + text + 1) return -ENOBUFS;
        memcpy(to, heads[found != NULL], sizeof heads[0]);
        to = mempcpy(to + head, data, text);
        data += text;
        if (!found) *to++ = '\n';
    }
    return to - out;
}

static int lc_inotify_init1(void) { CHECKED(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)); }

static int lc_inotify_add_watch(int fd, const char *path, uint32_t mask) {
    CHECKED(inotify_add_watch(fd, path, mask));
}

static int lc_inotify_rm_watch(int fd, int watch) { CHECKED(inotify_rm_watch(fd, watch)); }
static int lc_fcntl(int fd, int command, int argument) { CHECKED(fcntl(fd, command, argument)); }

/* 1 when another process has a lock on the file (F_GETLK sees those of open descriptions too) */
static int lc_is_locked(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &lock) < 0 ? -errno : lock.l_type != F_UNLCK;
}

static int lc_close_range(unsigned int first, unsigned int last, unsigned int flags) {
    CHECKED(syscall(SYS_close_range, first, last, flags));
}

/* mallopt knows no errno: it returns 0 for what it does not take. */
static int lc_mallopt(int parameter, int value) { return mallopt(parameter, value) ? 0 : -EINVAL; }
static int lc_malloc_trim(size_t pad) { return malloc_trim(pad); }

struct lc_spawn {
    int fds[4], new_session, terminal, death_signal, listen_pid_index, vfork; /* fds: 0-2, wait_fd */
    char *oom_score_adj, *cwd;
    int *blocked, *ignored, *defaulted, blocked_count, ignored_count, defaulted_count;
};

/* The forked child up to exec: async-signal-safe calls only, and after vfork nothing of the parent's
   is changed but what the call owns; returns only after a failure. */
static void run_child(const char *path, char **argv, char **envp, const struct lc_spawn *how,
                      int parent) {
    char listen_pid[32], data[8192];
    int fds[4], old[NSIG], i;
    for (i = 0; i < 4; i++) { /* what lies in 0-2 might be overwritten before its turn */
        int given = how->fds[i], low = given >= 0 && given <= 2;
        fds[i] = low ? fcntl(given, F_DUPFD_CLOEXEC, 3) : given;
        if (low && fds[i] < 0) return;
    }
    for (i = 0; i < 3; i++)
        if (fds[i] >= 0 && dup2(fds[i], i) < 0) return;
    if (how->new_session) setsid(); /* a leader already: fine */
    if (how->terminal && ioctl(0, TIOCSCTTY, 0) < 0) return;
    if (how->oom_score_adj) { /* advisory: a failure leaves the score as it is */
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        ssize_t ignored = write(fd, how->oom_score_adj, strlen(how->oom_score_adj));
        (void)ignored;
        close(fd);
    }
    if (how->listen_pid_index >= 0) {
        snprintf(listen_pid, sizeof listen_pid, "LISTEN_PID=%d", getpid());
        envp[how->listen_pid_index] = listen_pid;
    }
    if (how->death_signal) {
        if (lc_set_pdeathsig(how->death_signal) < 0) return;
        if (getppid() != parent) raise(how->death_signal); /* it died before the request stood */
    }
    if (how->cwd && chdir(how->cwd) < 0) return;
    for (i = 0; i < how->defaulted_count; i++) lc_set_disposition(how->defaulted[i], 0);
    for (i = 0; i < how->ignored_count; i++) lc_set_disposition(how->ignored[i], 1);
    if (lc_sigprocmask(SIG_SETMASK, how->blocked, how->blocked_count, old) < 0) return;
    while (fds[3] >= 0 && read(fds[3], data, sizeof data) < 0)
        if (errno != EINTR) return;
    execve(path, argv, envp);
}

static int lc_spawn(const char *path, char **argv, char **envp, struct lc_spawn *how,
                    int *error_fd) {
    int low[2], ends[2], error, pid = -1, parent = getpid();
    if (pipe2(low, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
    /* With 0-2 closed in the caller the pipe could lie where the child's stdio goes. */
    ends[0] = fcntl(low[0], F_DUPFD_CLOEXEC, 3);
    ends[1] = fcntl(low[1], F_DUPFD_CLOEXEC, 3);
    if (ends[0] >= 0 && ends[1] >= 0) pid = how->vfork && how->fds[3] < 0 ? vfork() : fork();
    error = errno;
    close(low[0]);
    close(low[1]);
    if (pid == 0) {
        run_child(path, argv, envp, how, parent);
        /* We have the reading end too: this write cannot raise SIGPIPE when the parent is gone. */
        error = errno;
        _exit(write(ends[1], &error, sizeof error) < 0 ? 126 : 127);
    }
    close(ends[1]);
    if (pid < 0) close(ends[0]);
    *error_fd = ends[0];
    return pid < 0 ? -error : pid;
}
"""

EXPORTED = r"^struct lc_\w+ {.*?^};|^static (?:int|int64_t) lc_\w+\(.*?\)"

ffi = FFI()
ffi.cdef("".join(f"#define {name} ...\n" for name in CONSTANTS) + STRUCTS)
for declaration in re.findall(EXPORTED, SHIMS, re.MULTILINE | re.DOTALL):
    ffi.cdef(declaration.removeprefix("static ") + ";")
ffi.set_source(
    "lowconmon._ffi",
    "".join(f"#include <{name}.h>\n" for name in HEADERS) + SHIMS,
    depends=["build_ffi.py"],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
