"""Run lowconmon on the architectures of Debian: packages, images, emulated machines."""
