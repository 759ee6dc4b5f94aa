from __future__ import annotations

import pytest
from embedonce.errors import ParameterError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.run_diff import diff
from saving import without_pictures


@pytest.fixture(scope="module", autouse=True)
def _numbers_only():
    with without_pictures():
        yield


@pytest.fixture(scope="module")
def runs(cache_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    opened = compare(cache_path, ["logreg", "dummy"], split="random")
    opened.save(folder / "a")
    compare(cache_path, {"logreg": {"C": 1e-9}, "knn": {}}, split="random").save(folder / "b")
    return folder


def test_a_run_does_not_differ_from_itself(runs):
    found = diff(runs / "a", runs / "a")
    assert found.settings == {}
    assert found.only_a == found.only_b == []
    for row in found.heads:
        assert row.difference("accuracy") == 0
        assert row.paired.p == 1


def test_different_scores_parameters_and_heads_are_listed(runs):
    found = diff(runs / "a", runs / "b")
    assert found.settings == {"logreg: C": {"a": 1.0, "b": 1e-9}}
    assert (found.only_a, found.only_b) == (["dummy"], ["knn"])
    (row,) = found.heads
    assert row.difference("accuracy") == pytest.approx(row.b["accuracy"] - row.a["accuracy"])
    assert row.paired.difference == pytest.approx(row.difference("accuracy"))
    assert row.paired.test == "McNemar and score interval"


def test_groups_of_both_runs_are_kept_together_in_the_test(cache, in_pairs, tmp_path):
    for name, c in (("a", 1.0), ("b", 1e-9)):
        compare(cache, {"logreg": {"C": c}}, split="grouped", groups=in_pairs).save(tmp_path / name)
    (row,) = diff(tmp_path / "a", tmp_path / "b").heads
    assert row.paired.test == "sign flips of groups and score interval"


def test_only_common_images_of_other_splits_are_paired(runs, cache_path, tmp_path):
    compare(cache_path, ["logreg"], split="random", seed=1).save(tmp_path / "c")
    found = diff(runs / "a", tmp_path / "c")
    assert "split: seed" in found.settings
    assert found.heads[0].images < 20


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(ParameterError, match="must be a folder that embedonce compare wrote"):
        diff(tmp_path, tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ParameterError, match="got another format"):
        diff(tmp_path, tmp_path)
    (tmp_path / "results.json").write_text('{"format": "embedonce-results", "format_version": 99}')
    with pytest.raises(ParameterError, match="its format version is 99, this embedonce reads up to"):
        diff(tmp_path, tmp_path)


def test_the_difference_is_that_on_the_images_of_both_runs(runs, cache_path, tmp_path):
    compare(cache_path, {"logreg": {"C": 1e-9}}, split="random", seed=1).save(tmp_path / "c")
    found = diff(runs / "a", tmp_path / "c")
    (row,) = found.heads
    titles, (cells,) = found.table()
    shown = dict(zip(titles, cells, strict=True))
    assert shown["shared"] == f"{row.images:,}"
    assert shown["B - A"] == f"{row.paired.difference:+.4f}"
    assert row.paired.low <= row.paired.difference <= row.paired.high
    assert "on the images that both runs tested" in str(found)


def test_hashes_are_not_printed(cache, in_pairs, tmp_path):
    others = [f"g{row // 3}" for row in range(len(cache))]
    for name, groups in (("a", in_pairs), ("b", others)):
        compare(cache, ["logreg"], split="random", groups=groups).save(tmp_path / name)
    found = diff(tmp_path / "a", tmp_path / "b")
    assert "groups: not the same" in str(found).splitlines()
    assert found.settings["groups"]["a"] != found.settings["groups"]["b"]
