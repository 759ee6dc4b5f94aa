"""Write docs/API.md, the reference of the Python names, from their docstrings.

python tools/api.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import embedonce
from embedonce.heads.registry import HEADS, head_class

PAGE = Path(__file__).parents[1] / "docs" / "API.md"
HEAD = """# Python API

`tools/api.py` makes this page from the docstrings; a test compares them. `help(embedonce.compare)` says the same.

```python
import embedonce as eo
```

Importing it loads neither TensorFlow nor scikit-learn. Paths may be texts or `pathlib.Path`. What a function returns is
described under [Results](#results), what it raises under [Errors](#errors).
"""
FUNCTIONS = ("extract", "verify", "pack", "compare", "tune", "predict", "explain", "export", "finetune")
OF_HEADS = ("make_head", "save_head", "load_head")
CLASSES = ("FeatureCache", "EmbedonceError")
RESULTS = (
    ("extract.verify", "Verification"),
    ("evaluate.comparison", "Comparison"),
    ("evaluate.comparison", "HeadResult"),
    ("evaluate.tune", "Tuning"),
    ("evaluate.prediction", "Prediction"),
    ("evaluate.explanation", "Explanation"),
    ("evaluate.export", "Exported"),
    ("evaluate.finetune", "FineTuned"),
)
_TABLES = ("Parameters", "Attributes")
_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", flags=re.MULTILINE)
_LITERALS = (str, int, float, tuple, type(None))
_WIDTH = 96


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *_functions(), *_cache(), *_heads(), *_results(), *_errors()]).rstrip() + "\n"


def _functions() -> Iterator[str]:
    yield "## Functions\n"
    for name in FUNCTIONS:
        yield from _function(name)


def _function(name: str) -> Iterator[str]:
    function = getattr(embedonce, name)
    if inspect.ismodule(function):  # the package `extract_features`, which can be called
        function = import_module(f"embedonce.{name}.run").extract
    yield f"### {name}\n"
    yield _call(f"eo.{name}", inspect.signature(function))
    yield from _docstring(function, "####")


def _cache() -> Iterator[str]:
    yield "## FeatureCache\n"
    yield from _class(embedonce.FeatureCache, "###")


def _heads() -> Iterator[str]:
    yield "## Heads\n"
    yield "Heads are scikit-learn estimators: grid searches, pipelines and cross-validation take them as they are.\n"
    for name in OF_HEADS:
        yield from _function(name)
    for name in HEADS:
        kind = head_class(name)
        yield f'### Head "{name}"\n'
        parameters = inspect.signature(kind).parameters.values()
        arguments = "".join(f", {parameter}" for parameter in parameters)
        yield f"```python\neo.make_head({name!r}{arguments})\n```\n".replace("'", '"')
        yield from _docstring(kind, "####")


def _results() -> Iterator[str]:
    yield "## Results\n"
    for module, name in RESULTS:
        yield f"### {name}\n"
        yield from _class(getattr(import_module(f"embedonce.{module}"), name), "####")


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield (
        "Every error that embedonce raises on purpose is an `embedonce.EmbedonceError`, and the standard exception "
        "that a caller would expect. The exit status is that of the command line.\n"
    )
    yield "| error | is also | exit status | when |\n|---|---|---:|---|"
    for name, error in vars(import_module("embedonce.errors")).items():
        if inspect.isclass(error) and issubclass(error, embedonce.EmbedonceError):
            also = [base.__name__ for base in error.__bases__ if base is not Exception]
            first = _inline((inspect.getdoc(error) or "").partition("\n\n")[0])
            yield f"| `{name}` | {', '.join(f'`{base}`' for base in also)} | {error.exit_status} | {first} |"
    yield ""


def _class(kind: type, level: str) -> Iterator[str]:
    yield from _docstring(kind, level)
    for name, member in vars(kind).items():
        if name.startswith("_") or isinstance(member, property):
            continue
        function = getattr(kind, name)
        if callable(function) and inspect.getdoc(function):
            yield f"{level} {kind.__name__}.{name}\n"
            yield _call(name, inspect.signature(function))
            yield from _docstring(function, f"{level}#")
    properties = [(name, inspect.getdoc(member)) for name, member in vars(kind).items() if isinstance(member, property)]
    properties = [(name, text) for name, text in properties if text and not name.startswith("_")]
    if properties:
        yield "**Properties**\n\n| name | |\n|---|---|"
        for name, text in properties:
            yield f"| `{name}` | {_cell(_SECTION.split(text or '')[0])} |"
        yield ""


def _call(name: str, signature: inspect.Signature) -> str:
    """Return a call as a block of code, without the types, which the tables have."""
    parts: list[str] = []
    positional_only = False
    star = False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if positional_only and parameter.kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
        positional_only = parameter.kind is parameter.POSITIONAL_ONLY
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            parts.append("*")
        default = parameter.default
        if not isinstance(default, _LITERALS) and default is not parameter.empty:  # something of ours
            parts.append(f"{parameter.name}=...")
        else:
            parts.append(str(parameter.replace(annotation=parameter.empty)))
    lines, line = [], f"{name}("
    for number, part in enumerate(parts):
        piece = part + (", " if number < len(parts) - 1 else "")
        if len(line) + len(piece) > _WIDTH:
            lines.append(line.rstrip())
            line = "    "
        line += piece
    lines.append(line + ")")
    return "```python\n" + "\n".join(lines).replace("'", '"') + "\n```\n"


def _docstring(thing: Any, level: str) -> Iterator[str]:
    """Yield a docstring in NumPy's style as Markdown."""
    text = inspect.getdoc(thing) or ""
    before, *sections = _SECTION.split(text)
    yield from _paragraphs(before)
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title in _TABLES:
            yield f"| {title[:-1].lower()} | type | |\n|---|---|---|"
            for names, description in _entries(body):
                name, _, kind = names.partition(" : ")
                name = ", ".join(f"`{part}`" for part in name.split(", "))
                yield f"| {name} | {_cell(kind)} | {_cell(description)} |"
            yield ""
        elif title in ("Returns", "Raises", "Yields"):
            yield f"**{title}**\n"
            for names, description in _entries(body):
                shown = ", ".join(map(_type, names.split(", "))) if title == "Raises" else _type(names)
                yield f"- {shown}" + (f": {_cell(description)}" if description else "")
            yield ""
        else:
            yield f"**{title}**\n"
            yield from _paragraphs(body)


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """Yield the heads and the indented descriptions of a section."""
    head, lines = None, []
    for line in body.strip().splitlines():
        if line and not line.startswith(" "):
            if head is not None:
                yield head, " ".join(lines)
            head, lines = line, []
        else:
            lines.append(line.strip())
    if head is not None:
        yield head, " ".join(lines)


def _type(name: str) -> str:
    known = {kind for _, kind in RESULTS} | set(CLASSES)
    found = re.sub(r"\b\w+\b", lambda match: _link(match[0]) if match[0] in known else match[0], name)
    return found if "[" in found else (f"`{name}`" if re.fullmatch(r"\w+", name) else name)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower() if name != 'EmbedonceError' else 'errors'})"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph:
            yield _inline(paragraph) + "\n"


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")


def _inline(text: str) -> str:
    """Turn the markup of a docstring into Markdown's, on one line."""
    text = " ".join(text.split()).replace("**params", r"\*\*params")
    text = re.sub(r":(?:func|class|meth|data|attr):`([^`]+)`", lambda match: _reference(match[1]), text)
    return text.replace("``", "`")


def _reference(target: str) -> str:
    name = target.rpartition(".")[2]
    if target == f"embedonce.{name}" and name in (*FUNCTIONS, *OF_HEADS):
        return f"[`{target}`](#{name})"
    return f"`{target}`"


def undocumented() -> Iterable[str]:
    """Return public names that the page has not."""
    return set(embedonce.__all__) - {*FUNCTIONS, *OF_HEADS, *CLASSES, "__version__"}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
