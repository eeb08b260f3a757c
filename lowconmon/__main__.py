"""Fill descriptors 0-2, then launch: with one of them closed, the next file would become stdio."""

import os


def main() -> None:
    """Run the program conmon."""
    fd = os.open("/dev/null", os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)  # noqa: FBT003 - os's own argument
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)
    try:
        from . import launch
    except ImportError as error:  # another system, or a kernel that is too old
        os.write(2, f"conmon: {error}\n".encode())
        os._exit(1)
    launch.launch()


if __name__ == "__main__":
    main()
