"""Processes of embedonce with what they cost, and the options of extraction, for the other benchmarks."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """A finished process: wall seconds to the end and to the first line, processor seconds, peak memory, output."""

    seconds: float
    first_line_seconds: float
    processor_seconds: float
    peak_megabytes: float
    output: str


def run(*arguments: object, checkout: Path | None = None) -> Run:
    """Run ``embedonce`` with arguments as a process, or that of another checkout."""
    environment = dict(os.environ)
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout.resolve().parent)
    command = [sys.executable, "-P", "-m", "embedonce", *map(str, arguments)]
    begin = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        first_at = time.perf_counter()
        output = first + process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{errors.read()}")
    return Run(seconds, first_at - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def extract(folder: Path, cache: Path, options: argparse.Namespace, *further: str) -> Run:
    """Run ``embedonce extract --json`` with the options of `extraction_parser` and further ones."""
    of_network = ("--weights", options.weights, "--alpha", options.alpha, "--image-size", options.image_size)
    return run("extract", folder, cache, "--json", *of_network, *further)


def extraction_parser(description: str | None, folders: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of IMAGES, or with ``folders="+"`` several, and the options of the network."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs=folders, metavar="IMAGES")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=224)
    return parser
