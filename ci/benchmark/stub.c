/* A runtime that costs next to nothing: it leaves a child, and the child's pid.
 *
 * The child does $BENCH_JOB for each byte that comes through the FIFO $BENCH_GATE; a q ends it with 7.
 * A job is "KIND COUNT SIZE BATCH": COUNT lines of SIZE bytes, newline included, BATCH in a write; of the
 * kind "ticks" COUNT lines that tell the time, BATCH milliseconds apart, and one more at the end.
 * What $BENCH_LEAVE names, a cgroup.procs, is where runtime and child go, away from the monitor.
 * "stub write KIND COUNT SIZE BATCH" does a job at once; "stub copy" copies stdin to stdout; "stub drain
 * PATH COUNT" is a journald that forgets: it reads so many datagrams; "stub record PATH" is the least
 * of a monitor: it waits for a container, and writes how it ended to PATH, by a rename.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        exit(1);
    }
}

static int hand_over_terminal(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {"pty", 3};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control.space};
    int master = posix_openpt(O_RDWR | O_NOCTTY), fd = socket(AF_UNIX, SOCK_STREAM, 0), slave;

    check(master < 0 || grantpt(master) || unlockpt(master), "posix_openpt");
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    check(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.head), &master, sizeof master);
    check(sendmsg(fd, &message, 0) < 0, "sendmsg");
    close(fd);
    close(master);
    return slave;
}

static void tick(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    check(dprintf(1, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec) < 0, "write");
}

static void do_job(const char *job)
{
    long count = 0, size = 1, batch = 1, done, line, start, written, end;
    char *buffer;

    sscanf(job, "%*s %ld %ld %ld", &count, &size, &batch);
    if (!strncmp(job, "ticks", 5)) {
        while (count--) {
            tick();
            usleep(batch * 1000);
        }
        return;
    }
    buffer = malloc(size * batch);
    for (line = 0; line < batch; line++) {
        memset(buffer + line * size, 'a' + line % 26, size - 1);
        buffer[(line + 1) * size - 1] = '\n';
    }
    for (done = 0; done < count; done += batch) {
        end = size * (count - done < batch ? count - done : batch);
        for (start = 0; start < end; start += written) {
            written = write(1, buffer + start, end - start);
            check(written < 0, "write");
        }
    }
    free(buffer);
}

static void work(void)
{
    char byte;
    int gate = open(getenv("BENCH_GATE"), O_RDWR | O_CLOEXEC);

    while (read(gate, &byte, 1) == 1) {
        if (byte == 'q') {
            if (!strncmp(getenv("BENCH_JOB"), "ticks", 5))
                tick();
            _exit(7);
        }
        do_job(getenv("BENCH_JOB"));
    }
}

static int copy(void)
{
    static char buffer[65536];
    ssize_t size;

    while ((size = read(0, buffer, sizeof buffer)) > 0)
        check(write(1, buffer, size) != size, "write");
    return 0;
}

static int drain(const char *path, long count)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static char datagram[65536];
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    check(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
    while (count--)
        check(recv(fd, datagram, sizeof datagram, 0) < 0, "recv");
    return 0;
}

static int record(const char *path)
{
    char temporary[4096], digit;
    int status, fd;

    if (fork() == 0)
        work();
    snprintf(temporary, sizeof temporary, "%s.new", path);
    check(wait(&status) < 0, "wait");
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    digit = '0' + WEXITSTATUS(status);
    check(write(fd, &digit, 1) != 1 || close(fd) || rename(temporary, path), path);
    return 0;
}

int main(int argc, char **argv)
{
    const char *console = NULL, *pid_file = NULL;
    int index, slave = -1;
    FILE *file;
    pid_t pid;
    char job[100];

    if (argc == 2 && !strcmp(argv[1], "copy"))
        return copy();
    if (argc == 3 && !strcmp(argv[1], "record"))
        return record(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "drain"))
        return drain(argv[2], atol(argv[3]));
    if (argc == 6 && !strcmp(argv[1], "write")) {
        snprintf(job, sizeof job, "%s %s %s %s", argv[2], argv[3], argv[4], argv[5]);
        do_job(job);
        return 0;
    }
    for (index = 1; index + 1 < argc; index++) {
        if (!strcmp(argv[index], "--pid-file"))
            pid_file = argv[index + 1];
        if (!strcmp(argv[index], "--console-socket"))
            console = argv[index + 1];
    }
    if (getenv("BENCH_LEAVE")) {
        file = fopen(getenv("BENCH_LEAVE"), "w");
        check(!file || fputs("0", file) < 0 || fclose(file), "cgroup.procs");
    }
    if (console)
        slave = hand_over_terminal(console);
    pid = fork();
    check(pid < 0, "fork");
    if (pid == 0) {
        if (slave >= 0) {
            setsid();
            ioctl(slave, TIOCSCTTY, 0);
            for (index = 0; index < 3; index++)
                dup2(slave, index);
            close(slave);
        }
        work();
        _exit(1);
    }
    file = fopen(pid_file, "w");
    check(!file || fprintf(file, "%d", pid) < 0 || fclose(file), "pid file");
    return 0;
}
