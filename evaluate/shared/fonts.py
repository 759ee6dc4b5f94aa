"""Names in figures: characters that matplotlib's font lacks come from other fonts, else numbers replace the names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...cache import display

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OWN = "DejaVu Sans"
_OTHERS = ("color", "last resort", "lastresort", "blank")
_NUMBERS: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


@lru_cache(maxsize=1)
def _own_characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_OWN)).get_charmap())


@lru_cache(maxsize=1)
def _system_fonts() -> list[tuple[str, frozenset[int]]]:
    """Return families and characters of the fonts of the system, without boxes and coloured pictures."""
    from matplotlib.font_manager import fontManager, get_font

    fonts: dict[str, frozenset[int]] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, str(entry.weight), entry.fname)):
        if entry.name in fonts or entry.style != "normal" or any(word in entry.name.lower() for word in _OTHERS):
            continue
        try:
            fonts[entry.name] = frozenset(get_font(entry.fname).get_charmap())
        except (OSError, RuntimeError, ValueError):  # removed since matplotlib listed it, or damaged
            continue
    return list(fonts.items())


@lru_cache(maxsize=256)
def _families(lacking: frozenset[int]) -> tuple[tuple[str, ...], frozenset[int]]:
    """Return families that have these characters, and the characters that none has."""
    families: list[str] = []
    while lacking:
        name, characters = max(_system_fonts(), key=lambda font: len(lacking & font[1]), default=("", frozenset()))
        if not lacking & characters:
            break
        families.append(name)
        lacking -= characters
    return tuple(families), lacking


def _lacking(text: str) -> frozenset[int]:
    """Return the characters of a text that matplotlib's own font lacks."""
    return frozenset() if text.isascii() else frozenset(map(ord, text)) - _own_characters() - {10}


def number_names(names: Iterable[str], kind: str) -> dict[str, str]:
    """Return numbers, such as "class 3", for the names that no font here can draw."""
    return {
        name: f"{kind} {number}" for number, name in enumerate(names, start=1) if _families(_lacking(display(name)))[1]
    }


def use_fonts(*names: Iterable[str]) -> None:
    """Let texts that are made from now on in this style find the characters of these names in other fonts."""
    import matplotlib as mpl

    families, _ = _families(_lacking("".join(map(display, (name for some in names for name in some)))))
    if families:
        mpl.rcParams["font.family"] = [_OWN, *families]


def set_numbers(figure: Figure, class_names: Iterable[str] = (), head_names: Iterable[str] = ()) -> None:
    """Keep the numbers that replace names where a figure is saved as pixels."""
    numbers = number_names(class_names, "class") | number_names(head_names, "head")
    _NUMBERS[figure] = {display(name): label for name, label in numbers.items()}


@contextlib.contextmanager
def drawable(figure: Figure) -> Iterator[bool]:
    """Replace names that no font here can draw by their numbers, and other such characters by question marks.

    It gives True if there are any.
    """
    from matplotlib.text import Text

    numbers = sorted(_NUMBERS.get(figure, {}).items(), key=lambda item: -len(item[0]))  # a name may contain another

    def replaced(text: str) -> str:
        for name, label in numbers:
            for form in (name, f"{name[:12]}…{name[-11:]}", f"…{name[-27:]}"):  # names are shortened
                text = text.replace(form, label)
        missing = _families(_lacking(text))[1]
        return "".join("?" if ord(character) in missing else character for character in text)

    changed = False
    with contextlib.ExitStack() as restoring:
        for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if any(replaced(label) != label for label in labels):
                axis.set_ticklabels(list(map(replaced, labels)))
                restoring.callback(axis.set_ticklabels, labels)
                changed = True
        for text in figure.findobj(Text):
            before = text.get_text()  # type: ignore[attr-defined, unused-ignore]
            if replaced(before) != before:
                text.set_text(replaced(before))  # type: ignore[attr-defined, unused-ignore]
                restoring.callback(text.set_text, before)  # type: ignore[attr-defined, unused-ignore]
                changed = True
        yield changed
