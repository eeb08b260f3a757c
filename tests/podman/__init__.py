"""End-to-end tests with podman: see test_podman.py."""
