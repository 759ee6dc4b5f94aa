"""embedonce: embed images once with a frozen MobileNetV2, then compare classifier heads in seconds.

The public names are resolved when first used, so that ``import embedonce`` loads neither TensorFlow nor
scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache.errors import EmbedonceError
    from .cache.pack import pack
    from .cache.reader import FeatureCache
    from .evaluate.compare import compare
    from .evaluate.explanation import explain
    from .evaluate.export import export
    from .evaluate.finetune import finetune
    from .evaluate.prediction import predict
    from .evaluate.tune import tune
    from .extract.run import extract
    from .extract.verify import verify
    from .heads.files import load_head, save_head
    from .heads.registry import make_head

__version__ = "0.1.0"

_PUBLIC = {
    "FeatureCache": ".cache.reader",
    "pack": ".cache.pack",
    "verify": ".extract.verify",
    "make_head": ".heads.registry",
    "save_head": ".heads.files",
    "load_head": ".heads.files",
    "compare": ".evaluate.compare",
    "tune": ".evaluate.tune",
    "predict": ".evaluate.prediction",
    "explain": ".evaluate.explanation",
    "export": ".evaluate.export",
    "finetune": ".evaluate.finetune",
    "EmbedonceError": ".cache.errors",
}

__all__ = [
    "EmbedonceError",
    "FeatureCache",
    "__version__",
    "compare",
    "explain",
    "export",
    "extract",
    "finetune",
    "load_head",
    "make_head",
    "pack",
    "predict",
    "save_head",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "extract":
        return import_module(".extract", __name__)  # a package that can be called; the import stores it
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    own = {name for name, value in globals().items() if name.startswith("__") or isinstance(value, ModuleType)}
    return sorted(own | set(__all__))  # without what this module itself imports, for completion
