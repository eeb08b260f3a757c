"""What is known of each architecture: packages, compiler, machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """An emulated machine and the kernel that runs on it."""

    architecture: str  # of the kernel's package
    package: str  # depends on the newest kernel of its kind
    qemu: str  # the program's name behind qemu-system-
    arguments: tuple[str, ...]
    console: str  # what the kernel calls the serial console
    disk: str = "virtio-blk-pci"
    serial: tuple[str, ...] = ("-serial", "stdio")
    memory_mb: int = 1024
    processors: int = 1
    words: str = ""  # more of the kernel's command line


_X86 = Machine("amd64", "linux-image-cloud-amd64", "x86_64", ("-M", "q35", "-cpu", "max"), "ttyS0")
_ARM = Machine(
    "arm64",
    "linux-image-cloud-arm64",
    "aarch64",
    ("-M", "virt", "-cpu", "cortex-a57"),
    "ttyAMA0",
)
_MIPS = Machine(
    "mips64el",
    "linux-image-loongson-3",
    "mips64el",
    ("-M", "loongson3-virt", "-cpu", "Loongson-3A1000"),
    "ttyS0",
)
_POWER = Machine(
    "ppc64el",
    "linux-image-powerpc64le",
    "ppc64",
    ("-M", "pseries,cap-htm=off", "-cpu", "power9"),
    "hvc0",
)
_S390 = Machine(
    "s390x",
    "linux-image-s390x",
    "s390x",
    ("-M", "s390-ccw-virtio", "-cpu", "max"),
    "ttysclp0",
    "virtio-blk-ccw",
    ("-chardev", "stdio,id=c0", "-device", "sclpconsole,chardev=c0"),
)
_RISCV = Machine(
    "riscv64",
    "linux-image-riscv64",
    "riscv64",
    ("-M", "virt", "-cpu", "rv64"),
    "ttyS0",
    "virtio-blk-device",
)


@dataclass(frozen=True)
class Architecture:
    """One of Debian's architectures; *bits* and *order*: what its user space must turn out to be."""

    name: str
    triplet: str
    machine: Machine
    bits: int = 64
    order: str = "little"
    suites: tuple[str, ...] = ("bookworm",)  # the first that the mirror has whole

    @property
    def emulator(self) -> str:
        """The program of qemu-user-static that runs its programs; none for what we are."""
        names = {"armhf": "arm", "armel": "arm", "arm64": "aarch64", "ppc64el": "ppc64le"}
        return f"qemu-{names.get(self.name, self.name)}"

    @property
    def compiler(self) -> str:
        """The Debian package's and program's prefix."""
        return {"i386-linux-gnu": "i686-linux-gnu"}.get(self.triplet, self.triplet)


# Slowest first: the last ones to end decide how long all take.
ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("mipsel", "mipsel-linux-gnu", _MIPS, 32),
        Architecture("mips64el", "mips64el-linux-gnuabi64", _MIPS),
        Architecture("s390x", "s390x-linux-gnu", _S390, order="big"),
        Architecture("riscv64", "riscv64-linux-gnu", _RISCV, suites=("trixie", "forky")),
        Architecture("ppc64el", "powerpc64le-linux-gnu", _POWER),
        Architecture("armhf", "arm-linux-gnueabihf", _ARM, 32),
        Architecture("armel", "arm-linux-gnueabi", _ARM, 32),
        Architecture("arm64", "aarch64-linux-gnu", _ARM),
        Architecture("i386", "i386-linux-gnu", _X86, 32),
        Architecture("amd64", "x86_64-linux-gnu", _X86),
    )
}
