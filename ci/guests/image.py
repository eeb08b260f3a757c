"""Make what a machine boots: a kernel, an initramfs, and a disk with lowconmon and its tests.

Laws. No maintainer script runs and nothing is emulated here: packages are unpacked, the extension is
cross compiled against the architecture's own headers, the disk is filled without being mounted.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from .debs import Failure, Suite, first_suite, interpreter, link_flags, plain, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .architectures import Architecture

CHECKOUT = Path(__file__).resolve().parents[2]
# What the guest runs: Python with its test tools, three runtimes, a user's ordinary commands.
_PACKAGES = ["python3", "python3-cffi-backend", "python3-hypothesis", "busybox-static", "crun"]
_PACKAGES += ["runc", "bash", "coreutils", "dash", "findutils", "grep", "mount", "procps", "sed"]
_PACKAGES += ["util-linux", "jq"]
# Of our own environment: plain Python, and the same versions everywhere.
_TOOLS = [
    "_pytest",
    "iniconfig",
    "packaging",
    "pluggy",
    "py.py",
    "pygments",
    "pytest",
    "pytest_timeout.py",
]
_MODULES = ["virtio_pci", "virtio_mmio", "virtio_blk", "ext4", "overlay"]
_FLAGS = ["-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-D_FORTIFY_SOURCE=2"]
_KERNEL_PART = re.compile(r"linux-(image|binary|modules)-")
_MERGED = ("bin", "sbin", "lib")
_DISK_MB = 1200
_INITRAMFS = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t proc proc /proc
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod "/$module"; done
for second in 1 2 3 4 5 6 7 8 9 10; do
    [ -b /dev/vda ] && break
    /bin/busybox sleep 1
done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /guest/init
"""


class Root:
    """A system of the architecture with lowconmon and its tests, in *work*."""

    packages: Sequence[str] = _PACKAGES

    def __init__(self, architecture: Architecture, work: Path) -> None:
        self._architecture, self._work = architecture, work
        self._root = work / "root"

    def make_root(self, arguments: list[str]) -> Path:
        """Make it; *arguments*: pytest's, one a line. Raises Failure, OSError."""
        one = self._architecture
        self._suite = first_suite(one.suites, one.name)
        self._unpack_root()
        self._install()
        for name in ("init", "job"):
            shutil.copy(Path(__file__).with_name(name), self._root / "guest")
        (self._root / "guest/arguments").write_text("\n".join(arguments))
        return self._root

    def _unpack_root(self) -> None:
        root = self._root
        for name in _MERGED:
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        for name in ("lib64", "lib32", "libx32"):  # the loader's place on some
            (root / "usr" / name).mkdir()
            (root / name).symlink_to(f"usr/{name}")
        libpython = f"lib{interpreter(self._suite)}"
        self._unpacked = unpack(self._suite.fetch(*self.packages, libpython), root)
        for name in ("proc", "sys", "dev", "run", "tmp", "root", "etc", "guest"):
            (root / name).mkdir(exist_ok=True)
        etc = root / "etc"
        (etc / "passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
        )
        (etc / "group").write_text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
        sh = root / "usr/bin/sh"
        sh.unlink(missing_ok=True)
        sh.symlink_to("dash")
        (root / "usr/bin/busybox.guest").symlink_to("busybox")
        awk = root / "usr/bin/awk"
        if not awk.exists() and (root / "usr/bin/mawk").exists():
            awk.symlink_to("mawk")

    def _python(self) -> str:
        """Return the guest's `python3.N`."""
        return (self._root / "usr/bin/python3").readlink().name

    def _install(self) -> None:
        """Put the program and the tests into the root."""
        root, prefix = self._root, "usr"
        environment = {**os.environ, "DESTDIR": str(root), "LOWCONMON_SCRIPT": "1"}
        run(CHECKOUT / "ci/install", f"/{prefix}", env=environment)
        home = root / prefix / "lib/lowconmon"
        for backend in home.glob("_cffi_backend*.so"):
            backend.unlink()
        (backend,) = (root / "usr/lib/python3/dist-packages").glob("_cffi_backend*.so")
        shutil.copy(backend, home)
        self._compile(home / "lowconmon/_ffi.abi3.so")
        self._compile_executable(home, backend.name)
        self._bring_tests()
        shutil.copy(home / "lowconmon/_ffi.abi3.so", root / "guest/source/lowconmon")
        self._compile_python()

    def _bring_tests(self) -> None:
        """Put the tests and their tools into the root."""
        source = self._root / "guest/source"
        for name in ("tests", "lowconmon", "lowconmon_tools", "docs"):
            shutil.copytree(
                CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        for name in ("pyproject.toml", "build_ffi.py", "README.md", "CONTRIBUTING.md"):
            shutil.copy(CHECKOUT / name, source)
        tools, ours = self._root / "guest/tools", CHECKOUT / ".venv/lib"
        (site,) = ours.glob("python3*/site-packages")
        for name in _TOOLS:
            if (site / name).is_dir():
                shutil.copytree(site / name, tools / name)
            else:
                shutil.copy(site / name, tools)
        for info in site.glob("*.dist-info"):
            if re.sub(r"-.*", "", info.name) in {tool.removesuffix(".py") for tool in _TOOLS}:
                shutil.copytree(info, tools / info.name)

    def _compile_python(self) -> None:
        """Compile what the guest imports; the installed lowconmon is compiled already.

        Debian leaves it to a package's scripts, and a guest's Python would do it at each of its
        starts. One of another version than ours keeps what it compiles itself.
        """
        root = self._root
        if self._python() != f"python{sysconfig.get_python_version()}":
            for cache in root.rglob("__pycache__"):
                shutil.rmtree(cache)
            return
        imported = [root / "usr/lib" / self._python(), root / "usr/lib/python3", root / "guest"]
        run("/usr/bin/python3", "-ISB", "-m", "compileall", "-qf", "-s", root, "-p", "/", *imported)

    def _compile(self, target: Path) -> None:
        headers = self._work / "headers"
        headers.mkdir()
        python = self._python()
        unpack(self._suite.fetch(f"lib{python}-dev", alone=True), headers)
        source = self._work / "_ffi.c"
        script = "import runpy, sys; sys.path.append('/usr/lib/python3/dist-packages'); "
        script += "runpy.run_path(sys.argv[1])['ffi'].emit_c_code(sys.argv[2])"
        run("/usr/bin/python3", "-ISBc", script, CHECKOUT / "build_ffi.py", source)
        include = headers / "usr/include"
        compiler = f"{self._architecture.compiler}-gcc"
        run(compiler, *_FLAGS, f"-I{include / python}", f"-I{include}", source, "-o", target)

    def _freezer(self) -> tuple[list[str | Path], Path]:
        """Return a Python of the guest's version that runs here, and where its cffi is."""
        python = self._python()
        if python == f"python{sysconfig.get_python_version()}":
            return ["/usr/bin/python3"], Path("/usr/lib/python3/dist-packages")
        root = self._work / "python"
        root.mkdir()
        here = Suite(self._suite.release, run("dpkg", "--print-architecture").strip())
        unpack(here.fetch("python3", "python3-cffi"), root)
        (loader,) = root.glob("usr/lib*/ld-linux*")
        (libc,) = root.glob("usr/lib/*/libc.so.6")
        command: list[str | Path] = [loader, "--library-path", libc.parent]
        return [*command, root / "usr/bin" / python], root / "usr/lib/python3/dist-packages"

    def _compile_executable(self, home: Path, backend: str) -> None:
        """Compile the program conmon."""
        python = self._python()
        include = self._work / "headers/usr/include"
        environment = {
            **os.environ,
            "CC": f"{self._architecture.compiler}-gcc",
            "CFLAGS": f"-I{include / python} -I{include} -Werror",
            "LDFLAGS": link_flags(python, self._root, self._work / "link"),
        }
        script = "import runpy, sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[:3]; "
        script += "runpy.run_path(sys.argv[0], run_name='__main__')"
        place, (freezer, packages) = "/" / home.relative_to(self._root), self._freezer()
        run(*freezer, "-ISBX", "no_debug_ranges", "-c", script, CHECKOUT, packages,
            CHECKOUT / "build_executable.py", self._root / "usr/libexec/podman/conmon", place,
            place / backend, env=environment)  # fmt: skip


class Image(Root):
    """The files that a machine is started with, in *work*."""

    disk_mb = _DISK_MB

    def __init__(self, architecture: Architecture, work: Path) -> None:
        super().__init__(architecture, work)
        self.kernel, self.initramfs = work / "kernel", work / "initramfs"
        self.disk = work / "disk"

    def make(self, arguments: list[str]) -> None:
        """Make them all; *arguments*: pytest's, in the guest. Raises Failure, OSError."""
        self.make_root(arguments)
        self._make_kernel()
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-d", self._root,
            self.disk, f"{self.disk_mb}M")  # fmt: skip

    def _make_kernel(self) -> None:
        machine, modules = self._architecture.machine, self._work / "kernel-root"
        suite = Suite(self._suite.release, machine.architecture)
        packages = _kernel_packages(suite, machine.package)
        modules.mkdir()
        unpack(suite.fetch(*packages, alone=True), modules)
        images = [*modules.glob("boot/vmlinu*-*"), *modules.glob("usr/lib/modules/*/vmlinu*")]
        if not images:
            raise Failure(f"{packages} have no kernel")
        self.kernel.write_bytes(_bootable(images[0].read_bytes()))
        version = images[0].name.partition("-")[2] or images[0].parent.name
        if (modules / "usr/lib/modules").exists() and not (modules / "lib").exists():
            (modules / "lib").symlink_to("usr/lib")
        run("depmod", "-b", modules, version)
        stage = self._work / "initramfs-root"
        for name in ("bin", "dev", "proc", "root"):
            (stage / name).mkdir(parents=True)
        shutil.copy(self._root / "usr/bin/busybox", stage / "bin")
        names: list[str] = []
        for module in _MODULES:
            try:
                listed = run("modprobe", "-d", modules, "-S", version, "--show-depends", module)
            except Failure:  # built in, or not there: without a disk the guest says so
                continue
            for path in re.findall(r"^insmod (\S+)", listed, re.MULTILINE):
                name = Path(path).name.split(".ko")[0] + ".ko"
                if name not in names:
                    (stage / name).write_bytes(plain(Path(path)))
                    names.append(name)
        (stage / "modules").write_text("\n".join(names))
        (stage / "init").write_text(_INITRAMFS)
        (stage / "init").chmod(0o755)
        paths = "\n".join(str(path.relative_to(stage)) for path in stage.rglob("*"))
        done = subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"],
            input=paths.encode(), cwd=stage, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        self.initramfs.write_bytes(gzip.compress(done.stdout, 1))


def _kernel_packages(suite: Suite, package: str) -> list[str]:
    """Return *package* and what it is made of: newer suites have image and modules apart."""
    parts = [name for name in suite.depends(package) if _KERNEL_PART.match(name)]
    return [package, *(found for part in parts for found in _kernel_packages(suite, part))]


def _bootable(kernel: bytes) -> bytes:
    """Return a kernel as qemu takes it: unpacked, where the package has it packed for EFI or by gzip."""
    if kernel[:2] == b"MZ" and kernel[4:8] == b"zimg":
        offset, size = struct.unpack_from("<II", kernel, 8)
        kernel = kernel[offset : offset + size]
    return gzip.decompress(kernel) if kernel[:2] == b"\x1f\x8b" else kernel


def run(*words: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command; return its output. Raises Failure with all it said."""
    done = subprocess.run(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise Failure(f"{' '.join(map(str, words))}:\n{done.stdout}")
    return done.stdout
