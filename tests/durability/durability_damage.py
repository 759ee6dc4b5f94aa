"""Damaged media: every byte of a cache changed, once read and once repaired."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from durability_campaigns import Part, Tally
from durability_disk import tree
from durability_faults import Faults
from durability_images import Images, difference, read, update
from durability_scenarios import Verdict
from embedonce.errors import CacheError


def byte_flips(cache: Path, images: Images, masks: list[int], part: Part) -> Tally:
    """Change every byte of every file of a cache and read it each time.

    Parameters
    ----------
    cache : Path
        A cache in either form; it is left as it was.
    images : dict
        What it holds.
    masks : list of int
        Bits of the byte that are flipped; each is a separate state.
    part : Part

    Returns
    -------
    Tally
        ``wrong`` counts silent changes, ``crashed`` every error that is no CacheError.
    """
    tally, begin = Tally(), time.monotonic()
    for path in files_of(cache):
        with open(path, "r+b", buffering=0) as file:
            original = file.read()
            for position, byte in enumerate(original):
                for mask in masks if part.has(position) else ():
                    file.seek(position)
                    file.write(bytes([byte ^ mask]))
                    tally.add(read_damaged(cache, images), f"{path.name}, byte {position} ^ {mask}")
                file.seek(position)
                file.write(bytes([byte]))
    tally.seconds = time.monotonic() - begin
    return tally


def read_damaged(cache: Path, images: Images) -> Verdict:
    """Check that a reader of a damaged cache gets the correct values or a CacheError."""
    verdict = Verdict()
    try:
        wrong = difference(read(cache), images)
    except CacheError:
        return verdict
    except Exception as error:
        verdict.crashed, verdict.notes = 1, [f"{type(error).__name__}: {error}"]
        return verdict
    if wrong:
        verdict.wrong, verdict.notes = 1, [f"silently wrong: {wrong}"]
    return verdict


def repairs(
    cache: Path, images: Images, folder: Path, count: int, seed: int, work: Path, part: Part
) -> tuple[Tally, int]:
    """Damage a cache and bring it up to date: this must end with correct values, or refuse and change nothing.

    Parameters
    ----------
    cache : Path
    images : dict
        What it holds and what ``folder`` holds.
    folder : Path
        The images.
    count : int
        Bytes to damage, spread evenly over the cache's files.
    seed : int
    work : Path
    part : Part

    Returns
    -------
    tally : Tally
    repaired : int
        States that ended with correct values; the others were refused.
    """
    tally, begin, repaired = Tally(), time.monotonic(), 0
    places = [(path, position) for path in files_of(cache) for position in range(path.stat().st_size)]
    masks = np.random.default_rng(seed).integers(1, 256, count)
    chosen = np.linspace(0, len(places) - 1, count).astype(int).tolist()
    for mask, index in list(zip(masks.tolist(), chosen, strict=True))[part.number :: part.of]:
        path, position = places[index]
        shutil.copytree(cache.parent, work / "damaged")
        target = work / "damaged" / path.relative_to(cache.parent)
        data = bytearray(target.read_bytes())
        data[position] ^= mask
        target.write_bytes(data)
        before = tree(work / "damaged")
        verdict = Verdict()
        try:
            with Faults(work / "damaged"):
                update(folder, work / "damaged" / cache.name)
            wrong = difference(read(work / "damaged" / cache.name), images)
            repaired += not wrong
            verdict.wrong, verdict.notes = int(bool(wrong)), [f"wrong after the run: {wrong}"]
        except CacheError as error:
            untouched = tree(work / "damaged") == before
            verdict.lost, verdict.notes = int(not untouched), [f"refused, yet touched: {error}"]
        except Exception as error:
            verdict.crashed, verdict.notes = 1, [f"{type(error).__name__}: {error}"]
        tally.add(verdict, f"{path.name}, byte {position} ^ {mask}")
        shutil.rmtree(work / "damaged")
    tally.seconds = time.monotonic() - begin
    return tally, repaired


def files_of(cache: Path) -> list[Path]:
    """Return the files that a cache in either form consists of."""
    if cache.is_file():
        return [cache]
    return sorted(path for path in cache.rglob("*") if path.is_file() and not path.name.startswith("."))
