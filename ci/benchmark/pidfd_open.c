/* Let pidfd_open(2) be called under valgrind 3.19, which refuses what it does not know.
 *
 * To be preloaded. The real processor makes the call, past valgrind; x86-64 only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

static long call(unsigned thread, long pid, long flags) /* libc is for the simulated one */
{
    long result;

    (void)thread;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(SYS_pidfd_open), "D"(pid), "S"(flags)
                     : "rcx", "r11", "memory");
    return result;
}

long syscall(long number, ...)
{
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall"), given[6], result;
    va_list list;

    va_start(list, number);
    for (int index = 0; index < 6; index++)
        given[index] = va_arg(list, long);
    va_end(list);
    if (number != SYS_pidfd_open)
        return next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    result = VALGRIND_NON_SIMD_CALL2(call, given[0], given[1]);
    errno = result < 0 ? -result : errno;
    return result < 0 ? -1 : result;
}
