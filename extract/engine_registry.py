"""The table of engines by name. Looking at it imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple


class StoredModelFormat(NamedTuple):
    """How the store keeps the backbone that an engine reads.

    Attributes
    ----------
    ending : str
        Of its file's name, no other engine's.
    digest, maker : str
        What its SHA-256, and what it was made with, are written down as; no other engine's either.
    """

    ending: str
    digest: str
    maker: str


class EngineSpec(NamedTuple):
    """An engine, and what is known of it without importing it.

    Attributes
    ----------
    module : str
        In this folder with a leading dot, otherwise anywhere.
    cls : str
        A class in it with what :class:`embedonce.extract.engines.protocol.Engine` asks for. It is made of a
        recipe and a number of threads or None; with a form, of a ``Prepared``, the image size and a number of threads,
        and then has a static method ``prepare``, which takes a recipe, checks what the engine makes of it, and returns
        a ``PreparedModel``.
    precisions : tuple of str
        What it computes.
    form : StoredModelFormat or None
        None for an engine that reads no prepared backbone.
    """

    module: str
    cls: str
    precisions: tuple[str, ...]
    form: StoredModelFormat | None = None


ENGINES = {
    "native": EngineSpec(
        ".engines.engines", "NativeEngine", ("float32",), StoredModelFormat(".npz", "folded_sha256", "folded_with")
    ),
    "litert": EngineSpec(
        ".engines.engines",
        "LiteRTEngine",
        ("float32", "int8"),
        StoredModelFormat(".tflite", "model_sha256", "made_with"),
    ),
    "keras": EngineSpec(".engines.engines", "KerasEngine", ("float32", "float16", "bfloat16")),
}
"""Every engine by its name. `embedonce.extract.engines.chosen_engine` says which one ``auto`` is."""


def engine_class(name: str) -> Any:
    """Import the class of an engine of the table."""
    return getattr(import_module(ENGINES[name].module, __package__), ENGINES[name].cls)


def engines_for(precision: str) -> list[str]:
    """Return which engines compute a precision."""
    return [name for name, engine in ENGINES.items() if precision in engine.precisions]
