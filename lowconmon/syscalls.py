"""The public face of the bindings: everything here is documented in docs/bindings.md."""

from ._syscalls import *  # noqa: F403 - the names without a leading underscore are the interface
