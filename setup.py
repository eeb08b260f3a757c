from setuptools import setup

setup(
    cffi_modules=["build_ffi.py:ffi"],
    license="Apache-2.0",
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for it and all that follow
)
