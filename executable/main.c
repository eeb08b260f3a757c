/* The program conmon: Python, with the monitor's modules frozen into it (build_executable.py).
 *
 * Laws: descriptors 0-2 are filled and the signals to end are blocked before anything else; nothing of
 * Python is looked for on a disk but the cffi backend, whose path was given when this was built.
 * Python stops at its core phase (_init_main) without importlib: there are no codecs, no io and no
 * search path, and boot.py is what imports. That more than halves its start; the monitor needs no more.
 * What only a codec could say, such as why text is no UTF-8, is an ImportError here, or worse.
 */
#include <Python.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>

#define HEAP (sizeof(void *) << 17) /* 1 MiB with 64 bits */
#include "modules.h" /* HOME, BACKEND, VERSION, MODULES */

PyMODINIT_FUNC PyInit__ffi(void);
PyMODINIT_FUNC PyInit__imp(void);

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

/* The pages that a start will write to, all at once: one by one they take twice as long. */
static void fill_heap(void)
{
#ifdef MADV_POPULATE_WRITE /* Linux 5.14 */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start;

    mallopt(M_TRIM_THRESHOLD, (int)(2 * HEAP));
    mallopt(M_TOP_PAD, (int)HEAP);
    start = ((uintptr_t)malloc(1) | (page - 1)) + 1;
    mallopt(M_TOP_PAD, 1 << 17);
    madvise((void *)start, HEAP, MADV_POPULATE_WRITE);
#endif
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
    config._install_importlib = config._init_main = 0;
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    PyGC_Disable(); /* until all modules have run: monitor.py enables it */
    signal(SIGPIPE, SIG_IGN); /* as Python does, in the phase that is left out */
    signal(SIGXFSZ, SIG_IGN);
}

/* What importlib would begin with */
static int make_imp(void)
{
    PyObject *spec = PyModule_New("_imp"), *imp;
    PyModuleDef *def = (PyModuleDef *)PyInit__imp();

    if (!spec || !def || PyModule_AddStringConstant(spec, "name", "_imp"))
        return -1;
    imp = PyModule_FromDefAndSpec(def, spec);
    if (!imp || PyModule_ExecDef(imp, def))
        return -1;
    return PyDict_SetItemString(PyImport_GetModuleDict(), "_imp", imp);
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
    fill_heap();
    start_python();
    blocked = PyList_New(0);
    for (int number = 1; number < NSIG; number++)
        if (sigismember(&before, number) > 0)
            PyList_Append(blocked, PyLong_FromLong(number));
    boot = PyImport_AddModule("boot");
    if (boot && !make_imp() && PyImport_ImportFrozenModule("boot") > 0)
        PyObject_CallMethod(boot, "main", "Oiss", blocked, argc - 1, HOME, BACKEND);
    PyErr_Print(); /* main never returns */
    _exit(1);
}
