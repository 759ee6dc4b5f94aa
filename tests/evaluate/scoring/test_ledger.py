"""The ledger next to a cache counts the runs that scored the same test images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import embedonce as eo
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cache import append_line
from embedonce.cli import main
from embedonce.errors import OutputError
from saving import without_pictures


@pytest.fixture
def own(cache_path, tmp_path):
    """Return a copy of the cache, in a folder that no other test uses."""
    for path in cache_path.parent.glob("trees.h5*"):
        if not path.name.endswith(".ledger.jsonl"):
            shutil.copy(path, tmp_path)
    return tmp_path / cache_path.name


@pytest.fixture
def ledger(own):
    return own.with_name("trees.h5.ledger.jsonl")


def compared(cache, neighbors=5, seed=0, heads=None):
    heads = {"knn": {"n_neighbors": neighbors}} if heads is None else heads
    return eo.compare(cache, heads, split="random", seed=seed)


def lines_of(ledger):
    return [json.loads(line) for line in ledger.read_bytes().splitlines()]


def test_a_comparison_appends_a_line(own, ledger):
    comparison = compared(own)
    (line,) = lines_of(ledger)
    split = comparison.to_dict()["split"]
    assert (line["test_digest"], line["image_digest"]) == (split["test_digest"], split["image_digest"])
    assert line["best"] == {"head": "knn", "score": comparison.results[0].scores["accuracy"]}
    assert (line["command"], line["split"], line["test_images"]) == ("compare", "random", split["test"])
    assert comparison.earlier.runs == comparison.to_dict()["earlier_runs"]["runs"] == 0


def test_both_splits_of_a_comparison_are_recorded(own, ledger):
    groups = [f"g{row // 2}" for row in range(72)]
    comparison = eo.compare(own, ["knn"], groups=groups)
    assert [line["split"] for line in lines_of(ledger)] == ["grouped", "random"]
    assert comparison.leaky.earlier.runs == 0
    assert compared(own).earlier.runs == 0  # the same heads on the same random split


def test_equal_results_count_once(own, ledger):
    runs = [compared(own, number).earlier.runs for number in (40, 1, 1, 40, 20, 1)]
    assert runs == [0, 1, 1, 1, 2, 2]
    assert len(lines_of(ledger)) == 6
    both = compared(own, heads={"a": eo.make_head("knn", n_neighbors=40), "b": eo.make_head("knn", n_neighbors=1)})
    assert (both.earlier.runs, both.earlier.results) == (1, 1)


def test_other_test_images_do_not_count_and_other_labels_do(own):
    test = np.arange(0, 72, 5)
    split = eo.Split(np.setdiff1d(np.arange(72), test), test)
    eo.compare(own, {"knn": {"n_neighbors": 40}}, split=split)
    other = compared(own, 1).earlier
    assert (other.runs, other.changed) == (0, 0)
    with eo.FeatureCache.open(own) as cache:
        names = {path: str(name) for path, name in zip(cache.paths, cache.label_names, strict=True)}
    eo.label(own, labels=names | {cache.paths[0]: "birch"})
    assert eo.compare(own, {"knn": {"n_neighbors": 1}}, split=split).earlier.runs == 1


def test_runs_before_the_cache_changed_are_counted_apart(own, ledger):
    for number in (40, 20, 1):
        compared(own, number)
    lines = lines_of(ledger)
    ledger.write_text("".join(json.dumps(line | {"image_digest": "0", "tested": "1"}) + "\n" for line in lines))
    earlier = compared(own, 40).earlier
    assert (earlier.runs, earlier.changed) == (0, 3)
    assert earlier.text == "Before the images of the cache changed, 3 runs scored test images that may be among these."


def test_training_tuning_and_evaluation_count_too(own, ledger, tmp_path):
    compared(own, 40)
    trained = eo.train(own, "knn", tmp_path / "a.npz", parameters={"n_neighbors": 1}, split="random")
    assert (trained.earlier.runs, trained.to_dict()["earlier_runs"]["results"]) == (1, 1)
    evaluation = eo.evaluate_model(tmp_path / "a.npz", own)
    assert evaluation.earlier == evaluation.comparison.earlier
    assert evaluation.to_dict()["earlier_runs"]["runs"] == 1
    tuned = eo.tune(own, "knn", space={"n_neighbors": [30]}, split="random", folds=2)
    assert tuned.to_dict()["earlier_runs"]["runs"] == tuned.earlier.runs >= 1
    assert [line["command"] for line in lines_of(ledger)] == ["compare", "train", "evaluate", "tune"]


def test_external_images_have_a_ledger_of_their_own(own, tmp_path):
    other = tmp_path / "other.h5"
    shutil.copy(own, other)
    shutil.copy(own.with_name("trees.h5.groups.csv"), tmp_path / "other.h5.groups.csv")
    comparisons = [
        eo.compare(own, {"knn": {"n_neighbors": number}}, split="random", external=other) for number in (40, 1)
    ]
    assert [each.external[0].earlier.runs for each in comparisons] == [0, 1]
    assert comparisons[1].external[0].to_dict()["earlier_runs"]["test_images"] == 72
    assert [line["split"] for line in lines_of(tmp_path / "other.h5.ledger.jsonl")] == ["external"] * 2


def test_the_terminal_and_the_report_say_how_many(own, ledger, tmp_path):
    compared(own, 40)
    (line,) = lines_of(ledger)
    for number in range(12):
        line["heads"]["knn"]["predictions"] = f"{number:016x}"
        append_line(ledger, json.dumps(line).encode())
    command = ["compare", str(own), "--heads", "knn", "--split", "random", "-o", str(tmp_path / "run")]
    with without_pictures():
        shown = CliRunner().invoke(main, [*command, "--figures", "none"])
    text = "13 earlier runs have scored these 12 test images, with 13 other results."
    assert text.replace("12", str(line["test_images"])) in shown.stdout
    compared(own, 40).save(tmp_path / "run", figures="none")
    assert "13 earlier runs" in (tmp_path / "run" / "report.html").read_text().replace("\xa0", " ")


def test_damaged_and_foreign_lines_stay_and_are_named_once(own, ledger):
    compared(own, 40)
    whole = ledger.read_bytes()
    bad = b'{"format": "other"}\n[3]\n\xff\n{"format": "embedonce-ledger", "format_version": 2}\n' + whole[:30]
    ledger.write_bytes(whole + bad)
    comparison = compared(own, 1)
    (note,) = [note for note in comparison.notes if "ledger" in note]
    assert note.startswith("5 lines, such as line 2, of trees.h5.ledger.jsonl cannot be read and are not counted")
    assert comparison.earlier.runs == 1
    assert ledger.read_bytes().startswith(whole + bad + b'\n{"format"')
    assert compared(own, 20).earlier.runs == 2


def test_a_ledger_that_cannot_be_written_is_a_note(own, ledger):
    ledger.mkdir()
    comparison = compared(own)
    (note,) = [note for note in comparison.notes if "ledger" in note]
    assert note.startswith("this run is not counted among those that scored these test images: cannot write")
    assert note.endswith("Is a directory")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here")
def test_a_planted_link_changes_no_other_file(own, ledger, tmp_path):
    (tmp_path / "other").write_text("mine")
    ledger.symlink_to(tmp_path / "other")
    assert any("this run is not counted" in note for note in compared(own).notes)
    assert (tmp_path / "other").read_text() == "mine"
    os.unlink(ledger)
    os.mkfifo(ledger)
    with pytest.raises(OutputError, match="not a regular file"):
        append_line(ledger, b"x")


def test_a_lock_that_another_process_keeps_is_not_waited_for(own, ledger):
    fcntl = pytest.importorskip("fcntl")
    compared(own, 40)
    with ledger.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert compared(own, 1).earlier.runs == 1
    assert len(lines_of(ledger)) == 2


def test_features_in_memory_have_no_ledger():
    cache = eo.FeatureCache.from_arrays(np.eye(2).repeat(20, axis=0), ["ash"] * 20 + ["birch"] * 20)
    assert compared(cache).earlier is None


def test_lines_of_several_processes_do_not_mix(tmp_path):
    code = "import sys; from embedonce.cache import append_line\n"
    code += "for _ in range(200): append_line(sys.argv[1], sys.argv[2].encode() * 2000)"
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    for process in [subprocess.Popen([*command, letter]) for letter in "abc"]:
        assert process.wait(100) == 0
    lines = (tmp_path / "a").read_text().splitlines()
    assert sorted(lines) == sorted(letter * 2000 for letter in "abc" for _ in range(200))
