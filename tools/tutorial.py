"""Run every command of docs/TUTORIAL.md and print what it prints, to hold against the page when something has changed.

python tools/tutorial.py IMAGES FOLDER [--weights FILE]

FOLDER gets the cache, the models and the results; figures of the page are copied from there to docs/images.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "TUTORIAL.md"
PICTURES = {"runs/lung/scores.png": "leak-gap.png", "runs/lung/confusion.png": "confusion.png"}


def commands() -> list[str]:
    """Return the command lines of the page."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def main() -> int:
    """Run and print; exit status 1 when a command fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="the folder lung_image_sets of LC25000")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="of the backbone, where there is no network")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    (options.folder / "lung_image_sets").symlink_to(options.images.resolve())
    if options.weights is not None:
        (options.folder / options.weights.name).symlink_to(options.weights.resolve())
    for line in commands():
        words = shlex.split(line)[1:]
        if words[0] == "extract" and options.weights is not None:
            words += ["--weights", options.weights.name]
        print(f"$ embedonce {shlex.join(words)}", flush=True)
        command = [sys.executable, "-m", "embedonce", *words]
        if subprocess.run(command, cwd=options.folder, stderr=subprocess.DEVNULL, check=False).returncode:
            print(f"failed: {line}", file=sys.stderr)
            return 1
    for source, picture in PICTURES.items():
        shutil.copyfile(options.folder / source, PAGE.parent / "images" / picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
