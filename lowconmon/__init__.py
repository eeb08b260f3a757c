"""A container monitor in conmon's place; the bindings and the loop it stands on are of use alone."""

__version__ = "0.1.0"
