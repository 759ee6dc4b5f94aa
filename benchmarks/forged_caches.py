"""Open forged cache files with the HDF5 library and with embedonce.

    python benchmarks/forged_caches.py [--files 6000] [--seed 0] [--json FILE]

Each file is a small cache with some changed numbers in its structure and with correct HDF5 checksums, as an attacker
would write it. Each is opened in a separate process, with 3 GiB of memory and 5 seconds: once with h5py, reading every
dataset and attribute, and once with embedonce.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
from embedonce.cache.shard import Shard
from embedonce.cache.writer import encode
from embedonce.errors import CacheError
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cache"))
from cache_tables import make_table

_SIGNATURES = (b"\x89HDF\r\n\x1a\n", b"OHDR", b"OCHK", b"FRHP", b"BTHD", b"BTLF", b"FSHD", b"FSSE")
_MASK = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """Return the checksum of HDF5's metadata: Bob Jenkins' lookup3 (hashlittle), initial value 0."""

    def rotate(value: int, bits: int) -> int:
        return (value << bits | value >> (32 - bits)) & _MASK

    left, place = len(data), 0
    a = b = c = (0xDEADBEEF + left) & _MASK
    while left > 12:
        x, y, z = struct.unpack_from("<III", data, place)
        a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
        for bits in (4, 6, 8, 16, 19, 4):  # the registers rotate
            a = ((a - c) & _MASK) ^ rotate(c, bits)
            c = (c + b) & _MASK
            a, b, c = b, c, a
        left, place = left - 12, place + 12
    if not left:
        return c
    x, y, z = struct.unpack("<III", data[place:] + bytes(12 - left))
    a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - rotate(b, bits)) & _MASK
        a, b, c = b, c, a
    return b  # the register that was c before the last rotation


def blocks_of(data: bytes) -> list[tuple[int, int]]:
    """Return start and end (the position of the checksum) of every block of structure."""
    found = []
    for signature in _SIGNATURES:
        start = data.find(signature)
        while start >= 0:
            for end in range(start + 8, min(start + 2500, len(data) - 3)):
                if struct.unpack_from("<I", data, end)[0] == lookup3(data[start:end]):
                    found.append((start, end))
                    break
            start = data.find(signature, start + 1)
    return found


def forge(data: bytes, blocks: list[tuple[int, int]], generator: random.Random) -> bytes:
    """Return the file with one to three changed positions and correct checksums."""
    forged = bytearray(data)
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        start, end = generator.choice(blocks)
        place, kind = generator.randrange(start, end), generator.random()
        if kind < 0.7:
            forged[place] = generator.choice([0, 1, 127, 128, 255, generator.randrange(256)])
        else:
            values = [
                0,
                1,
                start,
                end,
                len(data),
                2**31,
                2**32 - 1,
                2**63 - 1,
                2**64 - 1,
                generator.randrange(len(data)),
            ]
            width = generator.choice([2, 4, 8])
            forged[place : place + width] = (generator.choice(values) % (1 << 8 * width)).to_bytes(width, "little")
    del forged[len(data) :]
    for start, end in blocks:
        struct.pack_into("<I", forged, end, lookup3(bytes(forged[start:end])))
    return bytes(forged)


def with_library(path: Path) -> None:
    """Read all of a file with h5py."""
    with h5py.File(path, "r") as file:
        for name in file.attrs:
            _ = file.attrs[name]
        for name in file:
            if isinstance(file[name], h5py.Dataset):
                _ = file[name][()]


def with_ours(path: Path) -> None:
    """Read and check all of a file with embedonce."""
    try:
        Shard.open(path).damaged_rows()
    except CacheError:
        return


def outcome(read: Callable[[Path], None], path: Path, *, errors_are_fine: bool) -> str:
    """Read a file in a separate process and return the outcome."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        signal.alarm(5)
        status = 0
        try:
            read(path)
        except MemoryError:
            status = 2
        except BaseException:  # the process ends here after any error
            status = 0 if errors_are_fine else 1
        os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "took over 5 s" if number == signal.SIGALRM else f"crashed: {signal.Signals(number).name}"
    return ("fine or refused", "unexpected error", "out of memory")[os.WEXITSTATUS(status)]


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = bytes(encode(make_table(n=4, d=3, m=1)))
    blocks, generator = blocks_of(data), random.Random(options.seed)
    counts = {"h5py": collections.Counter[str](), "embedonce": collections.Counter[str]()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forged.h5"
        for _ in range(options.files):
            path.write_bytes(forge(data, blocks, generator))
            counts["h5py"][outcome(with_library, path, errors_are_fine=True)] += 1
            counts["embedonce"][outcome(with_ours, path, errors_are_fine=False)] += 1
    table = Table("of the files", f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}", "embedonce")
    for kind in sorted(set(counts["h5py"]) | set(counts["embedonce"])):
        table.add_row(kind, f"{counts['h5py'][kind]:,}", f"{counts['embedonce'][kind]:,}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"blocks": len(blocks)} | counts, indent=1))


if __name__ == "__main__":
    main()
