"""Arguments in the wrong order are named before anything is read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from embedonce.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        ("evaluate photos.h5 svm.npz", "MODEL and CACHE"),
        ("evaluate photos.cache/ svm.SKOPS", "MODEL and CACHE"),
        ("predict photos svm.npz", "MODEL and IMAGES"),
        ("predict a.jpg b.jpg svm.keras", "MODEL and IMAGES"),
        ("explain a.jpg svm.npz -o a.png", "MODEL and IMAGE"),
        ("finetune svm.keras --from photos --unfreeze 2 -o b.keras", "MODEL and IMAGES"),
        ("train svm.npz --head svm -o photos.h5", "CACHE and the output"),
        ("extract photos.h5 photos", "IMAGES and CACHE"),
        ("extract photos.cache/ photos", "IMAGES and CACHE"),
        ("extract photos.h5 photos.zip", "IMAGES and CACHE"),
    ],
)
def test_swapped_arguments_are_named(tmp_path, monkeypatch, arguments, question):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos.zip").touch()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(f"did you swap {question}?")


def test_arguments_in_order_are_not_called_swapped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in ("evaluate svm.npz photos.h5", "predict svm.npz photos", "train a.npz --head svm -o b.npz"):
        result = CliRunner().invoke(main, arguments.split())
        assert result.exit_code
        assert "swap" not in result.stderr
