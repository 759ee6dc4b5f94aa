"""Scenarios that a cache must survive, and checks of the state afterwards.

A scenario has the state before, a step that takes it to the state after, and nothing in between that a
reader may see. The same scenarios serve both forms of a cache, a file and a folder of shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from durability_disk import Tree, tree, write_tree
from durability_faults import DiedError, Event, Fault, Faults
from durability_images import EMPTY, NONSENSE, Images, Picture, Watch, difference, pictures, read, update, write_images
from embedonce.cache.packing import pack
from embedonce.errors import CacheError, OutputError

FILE, FOLDER = "c.h5", "c.cache"
FORMS = (FILE, FOLDER)
PACKED = "packed.h5"


SOME = pictures(range(5))
ALL = pictures(range(10)) | {
    "a/copy.png": Picture(1, tick=5),
    "b/bad.png": Picture(EMPTY),
    "c/text.png": Picture(NONSENSE),
}
CHANGED = ALL | {
    "a/000.png": Picture(30),
    "b/004.png": Picture(31),
    "b/007.png": Picture(7, tick=9),  # touched only
    "c/008.png": Picture(NONSENSE),
    "c/text.png": Picture(32),
    "d/033.png": Picture(33),
}
_GONE = ("a/000.png", "a/003.png", "b/001.png", "b/004.png", "c/002.png", "b/bad.png", "a/copy.png")
MOVED = {path: picture for path, picture in ALL.items() if path not in _GONE} | {
    "c/moved.png": Picture(0),
    "e/001.png": Picture(1),
}
TINY = {"a/1.png": Picture(1), "b/2.png": Picture(2), "b/3.png": Picture(3), "b/bad.png": Picture(EMPTY)}


@dataclass
class Scenario:
    """A step from one generation to the next.

    Attributes
    ----------
    name : str
    form : str
        The cache's name, which decides its form.
    before : dict, optional
        Images of the generation that stands before; None where no cache does.
    after : dict
        Images of the generation that the step makes.
    base : Path
        Holds ``images`` and ``before``, the state that the step starts from.
    held : frozenset of int
        Numbers of the pictures whose rows are acknowledged from the start, published or committed.
    is_pack : bool
        The step packs the cache into a file instead of bringing it up to date.
    """

    name: str
    form: str
    before: Images | None
    after: Images
    base: Path
    held: frozenset[int] = frozenset()
    is_pack: bool = False

    @property
    def images(self) -> Path:
        """The image folder, in the state after."""
        return self.base / "images"

    @property
    def start(self) -> Path:
        """The folder of the caches, in the state before."""
        return self.base / "before"

    @property
    def label(self) -> str:
        """Name and form."""
        return f"{self.name} {self.form}"

    def step(self, root: Path, watch: Watch) -> None:
        """Do what the scenario is about, on the caches in ``root``; doing it again completes it."""
        if self.is_pack:
            there = (root / PACKED).exists()
            try:
                pack(root / self.form, root / PACKED)
            except OutputError:
                if not there:  # it never replaces anything
                    raise
        else:
            update(self.images, root / self.form, watch)

    def readable(self, root: Path) -> list[tuple[Path, list[Images | None]]]:
        """Return every cache that a reader may open, and the generations that it may see there."""
        if self.is_pack:
            return [(root / self.form, [self.after]), (root / PACKED, [self.before, self.after])]
        return [(root / self.form, [self.before, self.after])]


@dataclass
class Promise:
    """The work that was acknowledged before the crash."""

    numbers: frozenset[int] = frozenset()
    is_published: bool = False

    @classmethod
    def of(cls, events: list[Event], held: frozenset[int] = frozenset()) -> Promise:
        """Collect the acknowledged work of a record."""
        numbers = {number for event in events for number in event.numbers}
        return cls(frozenset(numbers) | held, any(event.kind == "publish" for event in events))


@dataclass
class Verdict:
    """Errors found after a crash; all are 0 if there is none.

    Attributes
    ----------
    lost : int
        Acknowledged rows that had to be embedded again, or are gone.
    wrong : int
        Generations that were read without an error and are neither the old nor the new one.
    crashed : int
        Readers and recoveries that failed or were blocked.
    left_over : int
        Temporary files and finished work that recovery left lying about.
    notes : list of str
    """

    lost: int = 0
    wrong: int = 0
    crashed: int = 0
    left_over: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """True without an error."""
        return not (self.lost or self.wrong or self.crashed or self.left_over)


def examine(scenario: Scenario, root: Path, promise: Promise) -> Verdict:
    """Check the caches in ``root`` after a crash: as a reader finds them, and after another run."""
    verdict = Verdict()
    for path, generations in scenario.readable(root):
        _read_one(path, generations[-1:] if promise.is_published else generations, verdict)
    watch = Watch()
    try:
        with Faults(root):  # spares the real fsyncs
            scenario.step(root, watch)
    except Exception as error:
        verdict.crashed += 1
        verdict.notes.append(f"recovery: {type(error).__name__}: {error}")
        return verdict
    for path, generations in scenario.readable(root):
        _read_one(path, generations[-1:], verdict)
    wanted = {picture.number for picture in scenario.after.values()}
    kept = wanted & (wanted if promise.is_published else promise.numbers)
    again = kept & set(watch.passes)
    verdict.lost += len(again)
    if again:
        verdict.notes.append(f"embedded again: {sorted(again)}")
    to_do = sum(picture.number >= 0 and picture.number not in kept for picture in scenario.after.values())
    if len(watch.passes) > to_do + len(again):
        verdict.lost += len(watch.passes) - to_do - len(again)
        verdict.notes.append(f"{len(watch.passes)} forward passes for {to_do} images")
    verdict.left_over += len(left_over := leftovers(tree(root)))
    verdict.notes += [f"left over: {path}" for path in left_over]
    return verdict


def leftovers(state: Tree) -> list[str]:
    """Return files that a finished run must not leave: temporary files, unfinished work, shards of no generation.

    Nor must it have set anything aside as damaged, since a crash damages nothing that was finished.
    """
    manifests = b"".join(content or b"" for path, content in state.items() if path.endswith("manifest.json"))

    def is_left_over(path: Path) -> bool:
        orphaned = path.name.startswith("shard-") and path.stem.partition("-")[2].encode() not in manifests
        return orphaned or path.suffix == ".tmp" or ".damaged" in path.name or "partial" in path.parent.name

    return [path for path, content in state.items() if content is not None and is_left_over(Path(path))]


def _read_one(path: Path, generations: list[Images | None], verdict: Verdict) -> None:
    if not path.exists():
        if None not in generations:
            verdict.lost += 1
            verdict.notes.append(f"{path.name} is gone")
        return
    try:
        cache = read(path)
        differences = [difference(cache, images) for images in generations if images is not None]
    except Exception as error:
        if isinstance(error, CacheError) and None in generations and not is_claimed(path):
            return
        verdict.crashed += 1
        verdict.notes.append(f"reader: {type(error).__name__}: {error}")
        return
    if all(differences):
        verdict.wrong += 1
        verdict.notes.append(f"{path.name} is not a generation: {differences}")


def is_claimed(path: Path) -> bool:
    """Return whether there is a cache at a path: a file, or a folder with a manifest."""
    return path.is_file() or (path / "manifest.json").exists()


def record(scenario: Scenario, root: Path, fault: Fault | None = None) -> Faults:
    """Run a scenario's step on a copy of its start, in ``root``, and return the events.

    Raises
    ------
    OSError, DiedError
        The error of the step. Its attribute ``faults`` has the faults.
    """
    shutil.copytree(scenario.start, root)
    faults = Faults(root, fault or Fault())
    watch = Watch(acknowledge=faults.acknowledge)
    try:
        with faults:
            scenario.step(root, watch)
            faults.publish()
    except BaseException as error:
        error.faults = faults  # type: ignore[attr-defined]
        raise
    return faults


def make_scenarios(base: Path, forms: tuple[str, ...] = FORMS) -> list[Scenario]:
    """Build every scenario's images and the state that it starts from.

    Parameters
    ----------
    base : Path
        An empty folder.
    forms : tuple of str
    """
    result: list[Scenario] = []
    for form in forms:
        plain = [("fresh", None, ALL), ("append", SOME, ALL), ("change", ALL, CHANGED), ("delete", ALL, MOVED)]
        result += [_scenario(base, name, form, before, after) for name, before, after in plain]
        result.append(_killed(base, "recover", form, None, ALL, _in_the_third_segment))
        tidy = _killed(base, "tidy", form, ALL, CHANGED, _at_the_first_segment_removed)
        tidy.before = tidy.after  # it was killed after it had published
        result.append(tidy)
        if form == FOLDER:
            packing = _scenario(base, "pack", form, ALL, ALL)
            packing.before, packing.is_pack = None, True
            result.append(packing)
    return result


def _scenario(base: Path, name: str, form: str, before: Images | None, after: Images) -> Scenario:
    scenario = Scenario(name, form, before, after, base / f"{name}-{form}")
    scenario.start.mkdir(parents=True)
    with Faults(scenario.start):  # spares the real fsyncs
        if before is not None:
            write_images(scenario.images, before)
            update(scenario.images, scenario.start / form)
            scenario.held = frozenset(picture.number for picture in before.values())
    write_images(scenario.images, after)
    return scenario


def _killed(
    base: Path, name: str, form: str, before: Images | None, after: Images, where: Callable[[list[str]], int]
) -> Scenario:
    """Return a scenario that starts from what a process killed at one call left."""
    scenario = _scenario(base, name, form, before, after)
    calls = record(scenario, scenario.base / "whole").calls
    root = scenario.base / "killed"
    try:
        record(scenario, root, Fault("die", where(calls), "middle"))
    except DiedError as error:
        promise = Promise.of(error.faults.events, scenario.held)  # type: ignore[attr-defined]
    scenario.held = promise.numbers
    state = tree(root)
    shutil.rmtree(scenario.start)
    write_tree(state, scenario.start)
    return scenario


def _in_the_third_segment(calls: list[str]) -> int:
    return [number for number, call in enumerate(calls) if call.startswith("write ") and "segment" in call][2]


def _at_the_first_segment_removed(calls: list[str]) -> int:
    return next(number for number, call in enumerate(calls) if call.startswith("unlink ") and "segment" in call)
