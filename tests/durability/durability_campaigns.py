"""Campaigns of many faults, short for the tests and long for the benchmark."""

from __future__ import annotations

import errno
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from durability_disk import Disk, write_tree
from durability_faults import FREES, DiedError, Event, Fault, Faults
from durability_images import Watch
from durability_scenarios import Promise, Scenario, Verdict, examine, record
from embedonce.errors import OutputError

GOLDEN = 0.6180339887498949
PAGES = (4096, 512)
CONTROLS = {
    "files are not synced": Fault(swallow="files"),
    "folders are not synced": Fault(swallow="folders"),
    "renamed before synced": Fault(early_rename=True),
}


@dataclass(frozen=True)
class Part:
    """One of several processes that divide every `stride`-th state of a campaign."""

    number: int = 0
    of: int = 1
    stride: int = 1

    def has(self, state: int) -> bool:
        """Return whether a state belongs to this part."""
        index, rest = divmod(state, self.stride)
        return rest == 0 and index % self.of == self.number


@dataclass
class Tally:
    """Verdicts added up.

    Attributes
    ----------
    states : int
        How many were tried.
    lost, wrong, crashed, left_over : int
        As in `Verdict`.
    caught : int
        States with an error.
    seconds : float
    notes : list of str
        Of the first such states, each with what it takes to make it again.
    """

    states: int = 0
    lost: int = 0
    wrong: int = 0
    crashed: int = 0
    left_over: int = 0
    caught: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict, what: str) -> None:
        """Count one state."""
        self.states += 1
        self.lost += verdict.lost
        self.wrong += verdict.wrong
        self.crashed += verdict.crashed
        self.left_over += verdict.left_over
        if not verdict.is_clean:
            self.caught += 1
            if len(self.notes) < 10:
                self.notes.append(f"{what}: {'; '.join(verdict.notes)}")

    def merge(self, other: Tally) -> None:
        """Add another tally's counts; the work was done at the same time, so seconds are not added."""
        for name in ("states", "lost", "wrong", "crashed", "left_over", "caught"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds = max(self.seconds, other.seconds)
        self.notes = (self.notes + other.notes)[:10]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-serialisable."""
        return asdict(self)


def power_cuts(
    scenarios: list[Scenario], count: int, seed: int, work: Path, part: Part, fault: Fault | None = None
) -> Tally:
    """Cut the power at moments spread over every scenario, and judge what is left.

    Parameters
    ----------
    scenarios : list of Scenario
    count : int
        States to try, the page sizes in turn.
    seed : int
    work : Path
        An existing folder for scratch.
    part : Part
    fault : Fault, optional
        A negative control.

    Returns
    -------
    Tally
    """
    tally, begin = Tally(), time.monotonic()
    records = []
    for scenario in scenarios:
        records.append(record(scenario, work / "run", fault).events)
        shutil.rmtree(work / "run")
    for index in filter(part.has, range(count)):
        turn, which = divmod(index, len(scenarios))
        generator = np.random.default_rng([seed, index])
        moment = _spread(turn, len(records[which]) + 1)
        what = f"seed {seed}, state {index}"
        _cut(scenarios[which], records[which][:moment], PAGES[turn % len(PAGES)], generator, work / "cut", tally, what)
    tally.seconds = time.monotonic() - begin
    return tally


def power_cuts_after_kills(
    scenarios: list[Scenario], kills: int, cuts: int, seed: int, work: Path, part: Part
) -> Tally:
    """Kill a run, start another over what it left, and cut the power during that one.

    A killed process leaves what it had not synced in the system's memory. The next run sees it and must not
    take it for durable.

    Parameters
    ----------
    scenarios : list of Scenario
    kills : int
        Calls to kill each scenario at, besides those that make a folder.
    cuts : int
        Moments to cut the power at after each kill.
    seed : int
    work : Path
    part : Part
    """
    tally, begin = Tally(), time.monotonic()
    for which, scenario in enumerate(scenarios):
        calls = record(scenario, work / "run").calls
        shutil.rmtree(work / "run")
        chosen = [number for number, call in enumerate(calls) if call.startswith("mkdir")]
        chosen += [_spread(turn, len(calls)) for turn in range(kills)]
        for call in chosen[part.number :: part.of]:
            before, after = _killed_and_resumed(scenario, call, work / "run")
            for turn in range(cuts):
                generator = np.random.default_rng([seed, which, call, turn])
                events = before + after[: _spread(turn, len(after) + 1)]
                what = f"killed at call {call}, seed {seed}, turn {turn}"
                _cut(scenario, events, PAGES[turn % len(PAGES)], generator, work / "cut", tally, what)
    tally.seconds = time.monotonic() - begin
    return tally


def _killed_and_resumed(scenario: Scenario, call: int, root: Path) -> tuple[list[Event], list[Event]]:
    """Return the records of a run killed after a call, and of the run after it."""
    try:
        record(scenario, root, Fault("die", call, "after"))
    except DiedError as error:
        before: list[Event] = error.faults.events  # type: ignore[attr-defined]
    with Faults(root) as faults:
        scenario.step(root, Watch(acknowledge=faults.acknowledge))
        faults.publish()
    shutil.rmtree(root)
    return before, faults.events


def _spread(turn: int, moments: int) -> int:
    """Return one moment; the golden ratio spreads any number of successive moments evenly."""
    return int((turn + 0.5) * GOLDEN % 1 * moments)


def _cut(
    scenario: Scenario,
    events: list[Event],
    page: int,
    generator: np.random.Generator,
    root: Path,
    tally: Tally,
    what: str,
) -> None:
    """Cut the power after these events, and judge one state that may be left."""
    disk = Disk(scenario.start)
    for event in events:
        disk.apply(event)
    write_tree(disk.cut(generator, page), root)
    if generator.random() < 0.5:
        leave_a_dead_writers_lock(root / scenario.form)
    verdict = examine(scenario, root, Promise.of(events, scenario.held))
    tally.add(verdict, f"{scenario.label}, cut after event {len(events)}, page {page}, {what}")
    shutil.rmtree(root)


def leave_a_dead_writers_lock(cache: Path, note: str = '{"host": "gone", "pi') -> None:
    """Write the files of a writer that died: a lock file without a holder, and the name of the writer, or half of it."""
    folder, start = (cache, "") if cache.is_dir() else (cache.parent, f".{cache.name}")
    (folder / f"{start}.lock").touch()
    (folder / f"{start}.writer.json").write_text(note)


def disk_errors(scenarios: list[Scenario], kinds: list[tuple[int, bool]], work: Path, part: Part) -> Tally:
    """Let every call of every scenario fail, in every way; a full disk fails no call that frees space.

    Parameters
    ----------
    scenarios : list of Scenario
    kinds : list of (int, bool)
        Error numbers, and whether all later calls fail as well.
    work : Path
    part : Part

    Returns
    -------
    Tally
        ``crashed`` also counts what is raised and is no OutputError.
    """
    tally, begin = Tally(), time.monotonic()
    for scenario in scenarios:
        calls = record(scenario, work / "run").calls
        shutil.rmtree(work / "run")
        for number, call in enumerate(calls):
            frees = call.partition(" ")[0] in FREES
            for code, lasting in kinds if part.has(number) else ():
                if code != errno.ENOSPC or not frees:
                    _fail_once(scenario, Fault("error", number, errno=code, lasting=lasting), work / "run", tally)
    tally.seconds = time.monotonic() - begin
    return tally


def _fail_once(scenario: Scenario, fault: Fault, root: Path, tally: Tally) -> None:
    unexpected = ""
    try:
        faults = record(scenario, root, fault)
    except Exception as error:
        if not isinstance(error, OutputError) or not str(error).strip():
            unexpected = f"{type(error).__name__}: {error}"
        faults = error.faults  # type: ignore[attr-defined]
    verdict = examine(scenario, root, Promise.of(faults.events, scenario.held))
    if unexpected:
        verdict.crashed += 1
        verdict.notes.append(unexpected)
    kind = errno.errorcode[fault.errno] + (" from there on" if fault.lasting else "")
    what = f"{kind} at call {fault.call} ({faults.calls[fault.call]})"
    tally.add(verdict, f"{scenario.label}, {what}")
    shutil.rmtree(root)
    if not fault.lasting and faults.calls[fault.call].startswith(("fsync", "mkdir")):
        # What was acknowledged after the error must be as durable as ever.
        _cut(scenario, faults.events, PAGES[0], np.random.default_rng(fault.call), root, tally, f"after {what}")
