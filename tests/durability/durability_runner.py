"""Run a campaign in other processes and print its tally as JSON.

    python durability_runner.py {cuts,cuts-after-kills,errors,kills,flips,torn,repairs,races,readers,walks} FOLDER [options]

It is a program because it forks: a process that has imported everything and runs no threads starts another
one in milliseconds. The states of a campaign are shared out to the processes; which states there are
depends on the options and the seed alone.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durability_campaigns import CONTROLS, Part, Tally, disk_errors, power_cuts, power_cuts_after_kills
from durability_damage import byte_flips, repairs
from durability_faults import Faults
from durability_images import update, write_images
from durability_processes import Child, kills, races, readers, torn_pages
from durability_scenarios import FILE, FOLDER, FORMS, TINY, Verdict, make_scenarios, pictures

ALL_ERRORS = [(errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EIO, False), (errno.EIO, True)]
USUAL_ERRORS = [(errno.ENOSPC, True), (errno.EIO, False)]


def call(what: str, folder: Path, **options: Any) -> dict[str, Any]:
    """Run a campaign in a fresh process.

    Parameters
    ----------
    what : str
        As on the command line.
    folder : Path
        For scratch; it must not exist.
    **options
        As on the command line.

    Returns
    -------
    dict
        The tally; ``repairs`` adds ``repaired``, ``races`` and ``readers`` add what they counted.
    """
    command = [sys.executable, __file__, what, str(folder)]
    for name, value in options.items():
        command += [f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    # A numerics library that starts threads must not do so in a process that forks.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def shared(
    work: Callable[[Part, Path], Tally | tuple[Tally, int]], folder: Path, processes: int, stride: int = 1
) -> dict[str, Any]:
    """Divide the states of a campaign among forked processes and add up their tallies."""

    def run(part: Part) -> Callable[[Callable[[Any], None]], None]:
        def child(send: Callable[[Any], None]) -> None:
            scratch = folder / f"part-{part.number}"
            scratch.mkdir()
            result = work(part, scratch)
            tally, repaired = result if isinstance(result, tuple) else (result, 0)
            send([tally.as_dict(), repaired])

        return child

    children = [Child(run(Part(number, processes, stride))) for number in range(processes)]
    total, repaired = Tally(), 0
    for child in children:
        ended_by, said = child.wait()
        if not said or isinstance(said[0], dict):
            raise RuntimeError(said[0]["failed"] if said else f"a process was ended by signal {ended_by}")
        total.merge(Tally(**said[0][0]))
        repaired += said[0][1]
    return total.as_dict() | {"repaired": repaired}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the command of the command line."""
    folder: Path = options.folder
    folder.mkdir(parents=True)
    if options.what in ("races", "readers"):
        return {"races": races, "readers": readers}[options.what](folder, options.seconds, options.form)
    if options.what in ("flips", "torn", "repairs"):
        return _damage(options)
    if options.what == "walks":
        return shared(lambda part, _: _walks(options, part), folder, options.processes)
    scenarios = make_scenarios(folder / "scenarios", tuple(options.forms))
    if options.scenarios:
        scenarios = [scenario for scenario in scenarios if scenario.name in options.scenarios]
    control = CONTROLS.get(options.control)
    campaigns: dict[str, Callable[[Part, Path], Tally]] = {
        "cuts": lambda part, work: power_cuts(scenarios, options.count, options.seed, work, part, control),
        "cuts-after-kills": lambda part, work: power_cuts_after_kills(
            scenarios, options.kills, options.count, options.seed, work, part
        ),
        "errors": lambda part, work: disk_errors(scenarios, ALL_ERRORS if options.every else USUAL_ERRORS, work, part),
        "kills": lambda part, work: kills(scenarios, options.count, work, part),
    }
    return shared(campaigns[options.what], folder, options.processes, options.stride)


def _damage(options: argparse.Namespace) -> dict[str, Any]:
    images, state = options.folder / "images", options.folder / "state"
    state.mkdir()
    content = pictures(range(options.images)) if options.what == "torn" else TINY
    write_images(images, content)
    with Faults(state):  # spares the real fsyncs
        update(images, state / options.form, shard_rows=options.rows)

    def work(part: Part, scratch: Path) -> Tally | tuple[Tally, int]:
        if options.what == "repairs":
            return repairs(state / options.form, content, images, options.count, options.seed, scratch, part)
        with Faults(scratch):
            update(images, scratch / options.form, shard_rows=options.rows)  # a copy that this process may change
        if options.what == "torn":
            return torn_pages(scratch / options.form, content, options.count, options.seed, part)
        return byte_flips(scratch / options.form, content, options.masks, part)

    return shared(work, options.folder, options.processes, options.stride)


def _walks(options: argparse.Namespace, part: Part) -> Tally:
    # imported here, since no other campaign needs them and every campaign is a process
    from durability_machine import CacheMachine, FolderMachine
    from hypothesis import HealthCheck, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    machine = FolderMachine if options.form == FOLDER else CacheMachine
    begin, verdict = time.monotonic(), Verdict()
    limits = settings(
        max_examples=options.count // part.of,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(options.seed + part.number)(machine), settings=limits)
    except Exception as error:
        verdict.crashed, verdict.notes = 1, [f"{type(error).__name__}: {error}"]
    tally = Tally()
    tally.add(verdict, f"seed {options.seed + part.number}")
    tally.states, tally.seconds = CacheMachine.runs, time.monotonic() - begin
    return tally


def main() -> None:
    """Run a campaign and print its tally as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["cuts", "cuts-after-kills", "errors", "kills", "flips"]
    choices += ["torn", "repairs", "races", "readers", "walks"]
    parser.add_argument("what", choices=choices)
    parser.add_argument("folder", type=Path, help="for scratch; must not exist")
    parser.add_argument("--count", type=int, default=100, help="states; of cuts-after-kills, cuts after each kill")
    parser.add_argument("--kills", type=int, default=4, help="kills per scenario, of cuts-after-kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), help="of the caches, by name")
    parser.add_argument("--form", default=FILE, help="the same, where there is one cache")
    parser.add_argument("--scenarios", nargs="+", help="by name; all by default")
    parser.add_argument("--control", choices=list(CONTROLS), help="break the writer in this way")
    parser.add_argument("--every", type=int, default=0, help="1 for every kind of error, once and lasting")
    parser.add_argument("--masks", type=int, nargs="+", default=[255], help="bits to turn in each byte")
    parser.add_argument("--images", type=int, default=26, help="of torn")
    parser.add_argument("--rows", type=int, default=2, help="of a shard, of flips, torn and repairs")
    parser.add_argument("--seconds", type=float, default=2.0, help="of races and readers")
    parser.add_argument("--stride", type=int, default=1, help="try every so many-th call or byte, of errors and flips")
    parser.add_argument("--processes", type=int, default=2)
    json.dump(run(parser.parse_args()), sys.stdout)


if __name__ == "__main__":
    main()
