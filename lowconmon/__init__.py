"""A container monitor in conmon's place; the bindings and the loop it stands on are of use alone."""

__version__ = "0.1.0"
VERSION_TEXT = f"conmon version 2.2.1\ncommit: lowconmon-{__version__}\n"
