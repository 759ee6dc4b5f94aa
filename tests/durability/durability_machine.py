"""Random walks: a changing folder of images and its cache, compared with a dict."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from durability_faults import DiedError, Fault, Faults
from durability_images import (
    EMPTY,
    NONSENSE,
    Images,
    Picture,
    Watch,
    difference,
    feature_row,
    read,
    update,
    write_images,
)
from durability_scenarios import FILE, FOLDER
from embedonce.cache.packing import pack
from embedonce.errors import CacheError, OutputError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

ANCHORS = {"a/anchor.png": Picture(0), "b/anchor.png": Picture(1)}
"""Images that stay, since a data set needs two classes."""

NUMBERS = st.integers(2, 25)
PLACES = st.builds("{}/{}.png".format, st.sampled_from("abcd"), st.integers(0, 9))
FRACTIONS = st.floats(0, 1, exclude_max=True)
MOST_CALLS = 90


class CacheMachine(RuleBasedStateMachine):
    """Events of a folder and its cache.

    Attributes
    ----------
    form : str
        The cache's name.
    images : dict
        The folder.
    published : dict, optional
        The folder when the generation in the cache was made.
    known : set of int
        Pictures that must not be embedded again.
    is_damaged : bool
        A bit was flipped since the last run.
    runs : int
        Of all walks in this process.
    """

    form = FILE
    runs: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.root = self.base / "caches"
        self.root.mkdir()
        self.cache = self.root / self.form
        self.images: Images = dict(ANCHORS)
        self.published: Images | None = None
        self.known: set[int] = set()
        self.is_damaged = False
        self.ticks = 0

    def teardown(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.base)

    def _some(self, fraction: float) -> str:
        others = sorted(self.images.keys() - ANCHORS.keys())
        return others[int(fraction * len(others))]

    def _tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def _has_images(self) -> bool:
        return len(self.images) > len(ANCHORS)

    @rule(place=PLACES, number=NUMBERS)
    def add_or_change(self, place: str, number: int) -> None:
        """An image appears, or is replaced by another."""
        self.images[place] = Picture(number, self._tick())

    @rule(place=PLACES, number=st.sampled_from([EMPTY, NONSENSE]))
    def reject(self, place: str, number: int) -> None:
        """A file that is not an image appears."""
        self.images[place] = Picture(number, self._tick())

    @precondition(_has_images)
    @rule(fraction=FRACTIONS)
    def delete(self, fraction: float) -> None:
        """An image goes."""
        del self.images[self._some(fraction)]

    @precondition(_has_images)
    @rule(fraction=FRACTIONS, place=PLACES)
    def move(self, fraction: float, place: str) -> None:
        """An image moves, over another one perhaps, and keeps its time."""
        self.images[place] = self.images.pop(self._some(fraction))

    @precondition(_has_images)
    @rule(fraction=FRACTIONS, place=PLACES)
    def copy(self, fraction: float, place: str) -> None:
        """An image is copied."""
        self.images[place] = self.images[self._some(fraction)]._replace(tick=self._tick())

    @precondition(_has_images)
    @rule(fraction=FRACTIONS)
    def touch(self, fraction: float) -> None:
        """An image gets another time."""
        path = self._some(fraction)
        self.images[path] = self.images[path]._replace(tick=self._tick())

    @rule()
    def run(self) -> None:
        """A run goes through."""
        self._run(Fault())
        assert self.published == self.images

    @rule(call=st.integers(0, MOST_CALLS), moment=st.sampled_from(["before", "middle", "after"]))
    def run_killed(self, call: int, moment: str) -> None:
        """A run is killed, unless it ends before."""
        self._run(Fault("die", call, moment))  # type: ignore[arg-type]

    @rule(call=st.integers(0, MOST_CALLS), code=st.sampled_from([errno.ENOSPC, errno.EIO]), lasting=st.booleans())
    def run_on_a_failing_disk(self, call: int, code: int, lasting: bool) -> None:
        """A run meets a full or broken disk, unless it ends before."""
        self._run(Fault("error", call, errno=code, lasting=lasting))

    def _run(self, fault: Fault) -> None:
        write_images(self.base / "images", self.images)
        watch = Watch()
        CacheMachine.runs += 1
        with Faults(self.root, fault) as faults:
            watch.acknowledge = faults.acknowledge
            ended = False
            try:
                update(self.base / "images", self.cache, watch)
                ended = True
            except (DiedError, OutputError):
                assert fault.kind != "none"
        if not self.is_damaged:
            again = self.known & set(watch.passes)
            assert not again, f"embedded again: {again}"
        self.known |= {number for event in faults.events for number in event.numbers}
        if ended or self._shows(self.images):
            self.published, self.is_damaged = dict(self.images), False
            self.known = {picture.number for picture in self.images.values()}

    def _shows(self, images: Images) -> bool:
        """Return whether a reader sees a generation, or would without the flipped bits."""
        try:
            return not difference(read(self.cache), images)
        except CacheError:
            return False

    @precondition(lambda self: self.published is not None and not self.is_damaged)
    @rule(fraction=FRACTIONS, offset=st.integers(0, 191), bit=st.integers(0, 7))
    def flip_a_bit_of_the_features(self, fraction: float, offset: int, bit: int) -> None:
        """The medium changes a stored value."""
        assert self.published is not None
        numbers = sorted({picture.number for picture in self.published.values() if picture.number >= 0})
        row = feature_row(numbers[int(fraction * len(numbers))]).tobytes()
        for path in [self.cache] if self.cache.is_file() else sorted(self.cache.glob("shard-*.h5")):
            data = bytearray(path.read_bytes())
            place = data.find(row)
            if place >= 0:
                data[place + offset] ^= 1 << bit
                path.write_bytes(data)
                self.is_damaged = True
        assert self.is_damaged, "no published row can be found in the cache"

    @precondition(lambda self: self.form != FILE and self.published is not None and not self.is_damaged)
    @rule()
    def pack(self) -> None:
        """The shards are written as one file."""
        target = self.base / "packed.h5"
        with Faults(self.base):
            pack(self.cache, target)
        assert self.published is not None
        assert difference(read(target), self.published) == ""
        os.unlink(target)

    @invariant()
    def a_reader_sees_the_last_generation(self) -> None:
        """A reader sees the last published generation, or is told that it is damaged."""
        if self.published is None:
            assert not (self.cache / "manifest.json").exists()
            assert not self.cache.is_file()
            return
        try:
            assert difference(read(self.cache), self.published) == ""
        except CacheError:
            assert self.is_damaged


class FolderMachine(CacheMachine):
    """Random walks of the other form."""

    form = FOLDER
