/* The program conmon: Python, with the monitor's modules frozen into it (build_executable.py).
 *
 * Laws: descriptors 0-2 are filled and the signals to end are blocked before anything else; nothing of
 * Python is looked for on a disk but the cffi backend, whose path was given when this was built.
 * Python stops at its core phase (_init_main): there are no codecs, no io and no search path. That
 * halves its start, and the monitor needs none of them.
 */
#include <Python.h>
#include <fcntl.h>
#include <signal.h>

#include "modules.h" /* HOME, BACKEND, VERSION, MODULES */

PyMODINIT_FUNC PyInit__ffi(void);

static _Noreturn void fail(const char *why)
{
    dprintf(2, "[conmon:e]: Failed to start: %s\n", why);
    _exit(1);
}

static void fill_stdio(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            fail(strerror(errno));
    } while (fd <= 2);
    close(fd);
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        fail(status.err_msg ? status.err_msg : "Python does not");
}

static void start_python(void)
{
    PyPreConfig first;
    PyConfig config;

    PyPreConfig_InitIsolatedConfig(&first);
    first.utf8_mode = 1; /* whatever the locale */
    first.allocator = PYMEM_ALLOCATOR_MALLOC;
    check(Py_PreInitialize(&first));
    PyImport_FrozenModules = MODULES;
    if (PyImport_AppendInittab("lowconmon._ffi", PyInit__ffi))
        fail("out of memory");
    PyConfig_InitIsolatedConfig(&config);
    config._init_main = 0;
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    PyGC_Disable(); /* until all modules have run: launch.py enables it */
    signal(SIGPIPE, SIG_IGN); /* as Python does, in the phase that is left out */
    signal(SIGXFSZ, SIG_IGN);
}

int main(int argc, char **argv)
{
    const int ending[] = {SIGTERM, SIGINT, SIGQUIT};
    PyObject *blocked, *boot;
    sigset_t set, before;

    if (argc == 2 && !strcmp(argv[1], "--version")) /* podman asks twice for each container */
        exit(printf("%s", VERSION) < 0 || fflush(stdout) != 0);
    sigemptyset(&set);
    for (int i = 0; i < 3; i++)
        sigaddset(&set, ending[i]);
    sigprocmask(SIG_BLOCK, &set, &before);
    fill_stdio();
    start_python();
    blocked = PyList_New(0);
    for (int number = 1; number < NSIG; number++)
        if (sigismember(&before, number) > 0)
            PyList_Append(blocked, PyLong_FromLong(number));
    boot = PyImport_AddModule("boot");
    if (boot && PyImport_ImportFrozenModule("boot") > 0)
        PyObject_CallMethod(boot, "main", "Oiss", blocked, argc - 1, HOME, BACKEND);
    PyErr_Print(); /* main never returns */
    _exit(1);
}
