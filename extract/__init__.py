"""Images to features: scanning, decoding, the frozen backbone, engines and the extraction run.

``embedonce.extract`` is this folder and the public function at once: ``embedonce.extract(images, cache)``
calls :func:`embedonce.extract.run.extract`. A submodule's name always lands on its parent package, so a
function of the same name would come and go with the order of imports; a package that can be called does not.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from .run import extract

        return extract(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
