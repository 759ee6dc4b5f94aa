"""Compile the kernels of the native engine if there is a compiler; setup.cfg has everything else."""

import os

from setuptools import Extension, setup

native = Extension(
    "embedonce.extract.engines._native",
    ["extract/engines/_native.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],  # one build for every Python from 3.11 on
    py_limited_api=True,
    extra_compile_args=[] if os.name == "nt" else ["-O3"],
    optional=True,
)

setup(ext_modules=[native])
