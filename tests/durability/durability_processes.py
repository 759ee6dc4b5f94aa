"""Real processes: killed in the middle, racing for one cache, reading while another writes.

They are forked, so this must run in a process that has imported everything and runs no threads: the one that
`durability_runner` starts.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from durability_campaigns import PAGES, Part, Tally, leave_a_dead_writers_lock
from durability_damage import files_of, read_damaged
from durability_faults import Fault, Faults
from durability_images import Images, Watch, difference, read, update, write_images
from durability_scenarios import ALL, CHANGED, Promise, Scenario, Verdict, examine, pictures, record
from embedonce.cache import FeatureCache
from embedonce.errors import LockedError

RACERS = 4
DEAD = json.dumps({"host": socket.gethostname(), "pid": 999_999_999, "since": "2001-01-01 00:00:00"})
READERS = 2


class Child:
    """A forked process that calls one function and sends back its result.

    Parameters
    ----------
    work : callable
        Called in the child with a function that sends a JSON value.
    """

    def __init__(self, work: Callable[[Callable[[Any], None]], None]) -> None:
        self._pipe, end = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(end)
            return
        write = os.write  # before it is patched

        def send(value: Any) -> None:
            write(end, json.dumps(value).encode() + b"\n")

        status = 1
        try:
            work(send)
            status = 0
        except BaseException as error:
            send({"failed": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(status)

    def wait(self) -> tuple[int, list[Any]]:
        """Return the signal that ended it, 0 for none, and what it sent."""
        with open(self._pipe, "rb") as stream:
            said = [json.loads(line) for line in stream]
        _, status = os.waitpid(self.pid, 0)
        return status & 0x7F, said


def kills(scenarios: list[Scenario], count: int, work: Path, part: Part) -> Tally:
    """Kill real processes at calls spread evenly over all calls of all scenarios.

    Parameters
    ----------
    scenarios : list of Scenario
    count : int
    work : Path
    part : Part
    """
    begin, tally = time.monotonic(), Tally()
    cases: list[tuple[Scenario, Fault]] = []
    for scenario in scenarios:
        for number, call in enumerate(record(scenario, work / "run").calls):
            cases += [(scenario, Fault("kill", number, "before")), (scenario, Fault("kill", number, "after"))]
            if call.startswith("write "):
                cases.append((scenario, Fault("kill", number, "middle")))
        shutil.rmtree(work / "run")
    for index in np.linspace(0, len(cases) - 1, count).astype(int).tolist()[part.number :: part.of]:
        scenario, fault = cases[index]
        _kill(scenario, fault, work / "run", tally)
        shutil.rmtree(work / "run")
    tally.seconds = time.monotonic() - begin
    return tally


def _kill(scenario: Scenario, fault: Fault, root: Path, tally: Tally) -> None:
    shutil.copytree(scenario.start, root)

    def work(send: Callable[[Any], None]) -> None:
        with Faults(root, fault):
            scenario.step(root, Watch(acknowledge=send))

    ended_by, said = Child(work).wait()
    held = scenario.held | {number for numbers in said if isinstance(numbers, list) for number in numbers}
    verdict = examine(scenario, root, Promise(frozenset(held)))
    if ended_by != signal.SIGKILL:
        verdict.crashed += 1
        verdict.notes.append(f"not killed: {said}")
    tally.add(verdict, f"{scenario.label}, killed {fault.moment} call {fault.call}")


def torn_pages(cache: Path, images: Images, count: int, seed: int, part: Part) -> Tally:
    """Replace pages of a cache by zeros or noise and read it.

    A library that trusts a torn structure may end the whole process, so the reader is a separate process.

    Parameters
    ----------
    cache : Path
    images : dict
        What it holds.
    count : int
    seed : int
    part : Part
    """
    begin, tally = time.monotonic(), Tally()
    originals = {path: path.read_bytes() for path in files_of(cache)}
    states = list(filter(part.has, range(count)))
    while states:

        def work(send: Callable[[Any], None], states: list[int] = states) -> None:
            for index in states:
                path, torn = _torn(originals, np.random.default_rng([seed, index]))
                path.write_bytes(torn)
                send(asdict(read_damaged(cache, images)))
                path.write_bytes(originals[path])

        ended_by, said = Child(work).wait()
        for index, verdict in zip(states, said, strict=False):
            tally.add(Verdict(**verdict), f"seed {seed}, state {index}")
        if len(said) < len(states):
            verdict = Verdict(crashed=1, notes=[f"the reader was ended by signal {ended_by}"])
            tally.add(verdict, f"seed {seed}, state {states[len(said)]}")
            for path, content in originals.items():
                path.write_bytes(content)
        states = states[len(said) + 1 :]
    tally.seconds = time.monotonic() - begin
    return tally


def _torn(originals: dict[Path, bytes], generator: np.random.Generator) -> tuple[Path, bytes]:
    path = list(originals)[generator.integers(len(originals))]
    data, page = bytearray(originals[path]), int(generator.choice(PAGES))
    starts = range(0, len(data), page)
    share = generator.choice([0.0, 0.1, 0.3])
    chosen = {start for start in starts if generator.random() < share} | {starts[generator.integers(len(starts))]}
    for start in chosen:
        size = min(page, len(data) - start)
        data[start : start + size] = bytes(size) if generator.random() < 0.8 else generator.bytes(size)
    return path, bytes(data)


def races(folder: Path, seconds: float, form: str) -> dict[str, Any]:
    """Start several writers on one cache at once, again and again."""
    begin, tally, losers, starts = time.monotonic(), Tally(), 0, 0
    states = itertools.cycle([ALL, pictures(range(100, 121))])
    (folder / "caches").mkdir()
    while tally.states == 0 or time.monotonic() - begin < seconds:
        state = next(states)
        write_images(folder / "images", state)
        leave_a_dead_writers_lock(folder / "caches" / form, DEAD)
        outcomes = _race(folder / "images", folder / "caches" / form)
        verdict = _judge_race(outcomes)
        wrong = difference(read(folder / "caches" / form), state)
        if wrong:
            verdict.wrong += 1
            verdict.notes.append(wrong)
        tally.add(verdict, f"round {tally.states}")
        starts += len(outcomes)
        losers += sum(outcome["outcome"] == "LockedError" for outcome in outcomes)
    tally.seconds = time.monotonic() - begin
    return tally.as_dict() | {"writers": starts, "refused": losers}


def _race(images: Path, cache: Path) -> list[dict[str, Any]]:
    gate, opener = os.pipe()

    def work(send: Callable[[Any], None]) -> None:
        os.close(opener)
        os.read(gate, 1)  # returns when the last writing end is closed
        watch = Watch(delay=0.02)  # long enough for the others to be refused meanwhile
        outcome, message = "done", ""
        try:
            update(images, cache, watch)
        except Exception as error:
            outcome, message = type(error).__name__, str(error)
        send({"pid": os.getpid(), "outcome": outcome, "message": message, "ended": time.monotonic()} | _held(watch))

    children = [Child(work) for _ in range(RACERS)]
    os.close(gate)
    os.close(opener)
    return [child.wait()[1][0] for child in children]


def _held(watch: Watch) -> dict[str, float]:
    return {"held_from": min(watch.times, default=0.0), "held_to": max(watch.times, default=0.0)}


def _judge_race(outcomes: list[dict[str, Any]]) -> Verdict:
    verdict = Verdict()
    winners = sorted((item for item in outcomes if item["outcome"] == "done"), key=lambda item: item["held_from"])
    for earlier, later in itertools.pairwise(winners):
        if earlier["held_to"] > later["held_from"]:
            verdict.wrong += 1
            verdict.notes.append("two writers at once")
    if not winners:
        verdict.crashed += 1
        verdict.notes.append("no writer could write")
    holder = re.compile(rf"process (\d+) on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d")
    for loser in (item for item in outcomes if item["outcome"] != "done"):
        named = holder.search(loser["message"])
        at_once = winners and loser["ended"] < max(winner["held_to"] for winner in winners)
        right = named and int(named[1]) in {winner["pid"] for winner in winners}
        if loser["outcome"] != LockedError.__name__ or not right or not at_once:
            verdict.crashed += 1
            verdict.notes.append(f"{loser['outcome']}{'' if at_once else ', not at once'}: {loser['message']}")
    return verdict


def readers(folder: Path, seconds: float, form: str) -> dict[str, Any]:
    """Read a cache all the time while a writer publishes one generation after another."""
    images, cache, tally = folder / "images", folder / "caches" / form, Tally()
    cache.parent.mkdir()
    generations = [ALL, CHANGED]
    write_images(images, ALL)
    update(images, cache)
    begin = time.monotonic()
    end = begin + seconds
    marks = folder / "marks"  # a file for every reader that has seen two generations
    marks.mkdir()

    def running(done: bool) -> bool:
        return time.monotonic() < end + (0 if done else 60)

    def write(send: Callable[[Any], None]) -> None:
        count = 0
        while running(len(os.listdir(marks)) == READERS):
            count += 1
            write_images(images, generations[count % 2])
            update(images, cache)
        send({"generations": count})

    def look(send: Callable[[Any], None]) -> None:
        chance, seen = random.Random(os.getpid()), {"reads": 0, "switches": 0}
        last = ""
        while running(seen["switches"] > 0):
            with FeatureCache.open(cache) as opened:
                time.sleep(chance.choice([0, 0, 0.002, 0.02]))  # the features are read after a later publication
                differences = [difference(opened, images) for images in generations]
            if "" not in differences:
                raise AssertionError(f"a mixed generation: {differences}")
            seen["reads"] += 1
            seen["switches"] += bool(last) and last != str(differences)
            last = str(differences)
            if seen["switches"]:
                (marks / str(os.getpid())).touch()
        send(seen)

    children = [Child(write), *(Child(look) for _ in range(READERS))]
    total = {"generations": 0, "reads": 0, "switches": 0}
    for child in children:
        _, said = child.wait()
        verdict = Verdict()
        for name, value in said[-1].items() if said else [("failed", "silent")]:
            if name == "failed":
                verdict.crashed += "mixed" not in value
                verdict.wrong += "mixed" in value
                verdict.notes.append(value)
            else:
                total[name] += value
        tally.add(verdict, "writer" if child is children[0] else "reader")
    tally.states, tally.seconds = total["reads"], time.monotonic() - begin
    return tally.as_dict() | total
