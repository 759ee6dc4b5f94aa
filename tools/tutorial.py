"""Run the commands of docs/TUTORIAL.md and print their output: tutorial.py IMAGES FOLDER [WEIGHTS].

IMAGES is the folder lung_image_sets of LC25000, FOLDER a new one, WEIGHTS a file for machines without network.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "TUTORIAL.md"
PICTURES = {"runs/lung/scores.png": "leak-gap.png", "runs/lung/confusion.png": "confusion.png"}


def main() -> None:
    """Run and print."""
    images, folder, *weights = map(Path, sys.argv[1:])
    folder.mkdir(parents=True)
    (folder / "lung_image_sets").symlink_to(images.resolve())
    for path in weights:
        (folder / path.name).symlink_to(path.resolve())
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).splitlines():
        words = shlex.split(line)[1:]
        if words[0] == "extract" and weights:
            words += ["--weights", weights[0].name]
        print(f"$ embedonce {shlex.join(words)}", flush=True)
        command = [sys.executable, "-m", "embedonce", *words]
        subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL, check=True)
    for source, picture in PICTURES.items():
        shutil.copyfile(folder / source, PAGE.parent / "images" / picture)


if __name__ == "__main__":
    main()
