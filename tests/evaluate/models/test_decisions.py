"""Decisions of models: chosen by train, used by predict, scored by evaluate."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import FeatureCache, evaluate_model, predict, train
from embedonce.cli import main
from embedonce.errors import HeadError, ModelFileError, ParameterError, SplitError
from embedonce.evaluate.models.decision_thresholds import read_targets
from embedonce.heads.io.files import load_head, read_metadata, save_head


@pytest.fixture(scope="module")
def drawn():
    """A cache of two classes that overlap, in groups of four."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(1200) // 4 % 2, 1)
    features = generator.normal(size=(1200, 5))
    features[:, 0] += 2.2 * labels
    return FeatureCache.from_arrays(features, np.array(["a", "b"])[labels])


GROUPS = np.arange(1200) // 4


def test_a_threshold_is_stored_and_kept_on_test_images(drawn, tmp_path):
    trained = train(
        drawn, "logreg", tmp_path / "a.npz", split="grouped", groups=GROUPS, decide="accuracy=0.9,coverage=0.9"
    )
    answer, labels = trained.decisions
    assert (answer.kind, answer.target, labels.kind) == ("accuracy", 0.9, "coverage")
    assert 0.5 < answer.threshold < 1
    assert answer.images == len(trained.split.train)
    assert answer.groups == len(set(GROUPS[trained.split.train]))
    assert read_metadata(tmp_path / "a.npz")["decisions"] == trained.decisions.to_dict()
    assert trained.to_dict()["decisions"] == trained.decisions.to_dict()
    done = evaluate_model(tmp_path / "a.npz", drawn, groups=GROUPS)
    accuracy, coverage = done.decisions
    assert accuracy.score > 0.85
    assert accuracy.low < accuracy.score < accuracy.high
    assert 0.3 < accuracy.measured < 1
    assert coverage.score > 0.85
    assert 1 <= coverage.measured < 2
    assert any("of the answers are correct" in note for note in done.notes)
    assert any("the label is in the set for" in note for note in done.notes)
    assert [one["kind"] for one in done.to_dict()["decisions"]] == ["accuracy", "coverage"]


def test_decisions_change_no_head(drawn, tmp_path):
    options = {"split": "grouped", "groups": GROUPS}
    plain = train(drawn, "logreg", tmp_path / "a.npz", **options)
    decided = train(drawn, "logreg", tmp_path / "b.npz", **options, decide="accuracy=0.8")
    np.testing.assert_array_equal(plain.head.coef_, decided.head.coef_)
    assert "decisions" not in plain.to_dict()
    assert "decisions" not in read_metadata(tmp_path / "a.npz")
    assert not evaluate_model(tmp_path / "a.npz", drawn, groups=GROUPS).decisions


def test_groups_stay_together_on_a_random_split_too(drawn, tmp_path, monkeypatch):
    from embedonce.evaluate.models import decision_thresholds

    seen = []
    fit = decision_thresholds.fit_and_score
    monkeypatch.setattr(decision_thresholds, "fit_and_score", lambda *args: seen.append(args[3]) or fit(*args))
    train(drawn, "logreg", tmp_path / "a.npz", split="random", groups=GROUPS, decide="accuracy=0.8")
    assert len(seen) == 5
    assert not any(set(GROUPS[fold.train]) & set(GROUPS[fold.test]) for fold in seen)


@pytest.mark.parametrize(
    "text", ["", "accuracy", "accuracy=1", "coverage=0", "recall=0.9", "accuracy=0.9,accuracy=0.8", "accuracy=nan", 0.9]
)
def test_targets_are_checked(text, drawn, tmp_path):
    with pytest.raises(ParameterError, match=r"parameter decide of train must be accuracy=VALUE or coverage=VALUE"):
        train(drawn, "logreg", tmp_path / "a.npz", split="random", decide=text)
    assert read_targets(None) == {}
    assert read_targets(" coverage=0.9 , accuracy=0.5") == {"coverage": 0.9, "accuracy": 0.5}


def test_a_target_out_of_reach_says_what_would_be(drawn, tmp_path):
    options = {"split": "grouped", "groups": GROUPS}
    with pytest.raises(HeadError, match=r"no threshold reaches accuracy=0.999 .*Give a lower accuracy \(accuracy=0.9"):
        train(drawn, "logreg", tmp_path / "a.npz", **options, decide="accuracy=0.999")
    few = {"split": "grouped", "groups": np.arange(1200) // 60}
    with pytest.raises(HeadError, match=r"coverage=0.99 needs at least 99 groups of held-out images, got 1\d"):
        train(drawn, "logreg", tmp_path / "a.npz", **few, decide="coverage=0.99")
    with pytest.raises(HeadError, match="needs a head with probabilities"):
        train(drawn, "sklearn.svm:LinearSVC", tmp_path / "a.joblib", split="random", decide="accuracy=0.9")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def decided(cache, tmp_path_factory):
    """A model on real images with a threshold between the probabilities of its images."""
    path = tmp_path_factory.mktemp("decided") / "trees.npz"
    trained = train(cache, "logreg", path, parameters={"C": 0.001}, split="random")
    probabilities = np.sort(trained.head.predict_proba(cache.features).max(axis=1))
    rules = [
        {"kind": "accuracy", "target": 0.9, "threshold": float(probabilities[len(probabilities) // 3])},
        {"kind": "coverage", "target": 0.9, "threshold": float(probabilities[len(probabilities) // 3]) / 2},
    ]
    more = {"measured": 0.5, "images": 50, "groups": 50}
    save_head(trained.head, path, read_metadata(path) | {"decisions": [rule | more for rule in rules]})
    return path


def test_predict_asks_a_person_below_the_threshold(decided, images):
    found = predict(decided, images)
    rules = read_metadata(decided)["decisions"]
    for one in found:
        assert one.decision == ("answer" if one.classes[0][1] >= rules[0]["threshold"] else "ask a person")
        assert one.labels[0] == one.classes[0][0]
        assert one.to_dict()["decision"] == one.decision
    asked = [one for one in found if one.decision == "ask a person"]
    assert 0 < len(asked) < len(found)
    assert found.notes[0].startswith(f"{len(asked)} of {len(found)} images are for a person")
    every = predict(decided, images, top=3)
    for one, whole in zip(found, every, strict=True):
        inside = [name for name, probability in whole.classes if probability >= rules[1]["threshold"]]
        assert list(one.labels) == list(dict.fromkeys([whole.classes[0][0], *inside]))
    assert max(len(one.labels) for one in found) > 1


def test_the_command_prints_decisions(decided, images):
    def run(*options):
        result = CliRunner().invoke(main, ["predict", str(decided), str(images), *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    rows = list(csv.DictReader(io.StringIO(run("--csv"))))
    assert list(rows[0]) == ["path", "class", "probability", "novelty", "error", "decision", "labels"]
    assert {row["decision"] for row in rows} == {"answer", "ask a person"}
    assert any(" | " in row["labels"] for row in rows)
    lines = run().splitlines()
    assert sum("ask a person" in line for line in lines) == sum(row["decision"] == "ask a person" for row in rows)
    assert any("one of {" in line for line in lines)
    assert json.loads(run("--json"))[0]["decision"] in ("answer", "ask a person")


def test_the_command_stores_and_scores_decisions(cache_path, tmp_path):
    words = ["train", cache_path, "--head", "logreg", "--decide", "coverage=0.8", "-o", tmp_path / "a.npz"]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert "coverage=0.8: predict gives sets of" in done.output
    done = CliRunner().invoke(main, ["evaluate", str(tmp_path / "a.npz"), str(cache_path)])
    assert "the label is in the set for" in done.output.replace("\n  ", " ")


@pytest.mark.parametrize(
    "stored",
    [
        [{"kind": "accuracy"}],
        [{"kind": "x", "target": 0.5, "threshold": 0.5, "measured": 1, "images": 1, "groups": 1}],
        [7],
    ],
)
def test_damaged_decisions_are_refused(decided, images, tmp_path, stored):
    save_head(load_head(decided), tmp_path / "a.npz", read_metadata(decided) | {"decisions": stored})
    with pytest.raises(ModelFileError, match="describes its decisions in a damaged way"):
        predict(tmp_path / "a.npz", next(iter(sorted((images / "ash").iterdir()))))


def test_too_few_images_for_folds_are_an_error(tmp_path):
    small = FeatureCache.from_arrays(np.eye(2).repeat(4, axis=0), ["a"] * 4 + ["b"] * 4)
    with pytest.raises(SplitError):
        train(small, "knn", tmp_path / "a.npz", split="random", decide="coverage=0.5")
