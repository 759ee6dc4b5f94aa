"""Compile the kernels of the native engine and of the search if there is a compiler, and give a release its addresses.

setup.cfg has everything else. With the environment variable EMBEDONCE_URL, the address of the public repository,
the package names it, and the links of README.md, which it shows as its description, lead there.
"""

import os
import re
from pathlib import Path

from setuptools import Extension, setup


def kernels(folder: str, name: str) -> Extension:
    """Return an extension that the package can do without."""
    return Extension(
        f"embedonce.{folder.replace('/', '.')}.{name}",
        [f"{folder}/{name}.c"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],  # one build for every Python from 3.11 on
        py_limited_api=True,
        depends=[str(header) for header in Path(folder).glob("*.h")],
        # fused multiply-adds give the features the same bits for every width of vectors
        extra_compile_args=[] if os.name == "nt" else ["-O3", "-ffp-contract=fast"],
        optional=True,
    )


url = os.environ.get("EMBEDONCE_URL", "").rstrip("/")
readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
urls = {}
if url:
    readme = re.sub(r"(!\[[^]]*\]\()(?!\w+:|#)", rf"\1{url}/raw/HEAD/", readme)
    readme = re.sub(r"((?<!!)\[[^]]*\]\()(?!\w+:|#)", rf"\1{url}/blob/HEAD/", readme)
    urls = {"Source": url, "Issues": f"{url}/issues", "Changelog": f"{url}/blob/HEAD/CHANGELOG.md"}

setup(
    ext_modules=[
        kernels("extract/engines", "_kernels"),
        kernels("evaluate/duplicates", "_kernels"),
        kernels("extract", "_jpeg"),
    ],
    long_description=readme,
    project_urls=urls,
)
