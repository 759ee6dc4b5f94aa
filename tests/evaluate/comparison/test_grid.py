"""Many comparisons in one process."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import EmbedonceError, ParameterError
from embedonce.evaluate.comparison.config import read_config
from embedonce.evaluate.comparison.grid import Grid, run_grid
from embedonce.evaluate.comparison.result import Comparison
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.scoring import fit_many
from embedonce.extract import Progress
from embedonce.heads import make_head, svm
from embedonce.heads.numerics import rbf_matrix, sharing

GRID = Grid(seeds=(0, 1), parameters=(("svm", "C", (0.1, 1.0)),))
HEADS = {"svm": {}, "knn": {}}


@pytest.fixture
def run(cache, tmp_path):
    """Return a function that runs a grid and returns its results."""

    def run(grid=GRID, **options):
        variants = grid.variants(HEADS, 5)
        return list(run_grid(cache, variants, tmp_path / "grid", progress=Progress(), split="random", **options))

    return run


def test_a_grid_gives_what_each_comparison_gives(cache, run, tmp_path):
    results = run()
    assert [one.name for one in results] == [f"svm.C={c}_seed={seed}" for seed in (0, 1) for c in (0.1, 1.0)]
    alone = compare(cache, HEADS | {"svm": {"C": 1.0}}, seed=1, split="random")
    alone.save(tmp_path / "alone", figures="none")
    for name in ("predictions.csv", "split.csv", "confusion-svm.csv"):
        assert (results[-1].folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    stored = json.loads((results[-1].folder / "results.json").read_text())
    assert stored["heads"][0]["log_loss"] == alone.result("svm").scores["log_loss"]
    assert stored["differences"][0]["text"] == alone.differences[0].text


def test_a_head_is_fitted_once_per_split(run, monkeypatch):
    fitted = []
    original = fit_many.fit_and_score
    monkeypatch.setattr(fit_many, "fit_and_score", lambda name, *rest: fitted.append(name) or original(name, *rest))
    run()
    assert sorted(fitted) == ["knn"] * 2 + ["svm"] * 4


def test_finished_comparisons_are_not_repeated(run, tmp_path):
    first = run()
    assert not any(one.found for one in first)
    first[0].folder.rename(tmp_path / "grid" / "mine")
    (first[1].folder / "predictions.csv").unlink()
    more = run(Grid(seeds=(0, 1, 2), parameters=GRID.parameters))
    assert [one.found for one in more] == [True, False, True, True, False, False]
    assert not any(one.found for one in run(calibrate="temperature"))


def test_an_interrupted_comparison_leaves_nothing(run, tmp_path, monkeypatch):
    original = Comparison.save

    def save(self, folder, **options):
        if "seed=1" in folder.name:
            folder.mkdir()
            raise KeyboardInterrupt
        return original(self, folder, **options)

    monkeypatch.setattr(Comparison, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert sorted(path.name for path in (tmp_path / "grid").iterdir()) == ["svm.C=0.1_seed=0", "svm.C=1.0_seed=0"]


def test_parameters_multiply_comparisons_with_their_head():
    variants = Grid(("knn", "svm", "knn,svm"), (), GRID.parameters).variants({"svm": {"tol": 0.1}}, 7)
    assert [one.name for one in variants] == [
        "knn",
        "svm_svm.C=0.1",
        "svm_svm.C=1.0",
        "knn,svm_svm.C=0.1",
        "knn,svm_svm.C=1.0",
    ]
    assert variants[-1].heads == {"knn": {}, "svm": {"tol": 0.1, "C": 1.0}}
    assert {one.seed for one in variants} == {7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have heads, seed or parameters"),
        ("seed = 3", "key seed .* must be a list of values, got 3"),
        ("seed = []", r"key seed .* must be a list of values, got \[\]"),
        ("seed = [1, 1]", "key seed .* each value once"),
        ("seed = [-1]", "key seed .* numbers from 0 on, got -1"),
        ("seed = [true]", "key seed .* numbers from 0 on, got True"),
        ('heads = ["svm", "svm "]', "key heads .* each value once"),
        ("heads = [3]", "key heads .* list of texts, .* got 3"),
        ('heads = ["svm,svm"]', "key heads .* list of texts, .* got 'svm,svm'"),
        ("svm.C = 3", "key svm.C .* must be a list of values, got 3"),
        ("svm.C = [1, 1.0]", "key svm.C .* each value once"),
        ("sed = [1]", "keys of .* must be heads, seed or parameters of heads, .* got 'sed'"),
        ("svm = {}", "got 'svm'"),
    ],
)
def test_a_faulty_grid_is_one_error(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(f"[grid]\n{text}\n")
    with pytest.raises(ParameterError, match=message) as caught:
        read_config(tmp_path / "a.toml")
    assert "line 1 of the file" in str(caught.value)


@pytest.mark.parametrize("parameter", [("svm", "Z", (1,)), ("svm", "C", (-1,)), ("logreg", "C", (1,))])
def test_a_faulty_parameter_is_an_error_before_the_work(parameter):
    with pytest.raises(EmbedonceError):
        Grid(parameters=(parameter,)).variants(HEADS, 0)


def test_the_command_prints_one_table(cache_path, tmp_path):
    (tmp_path / "a.toml").write_text('split = "random"\n[heads.knn]\n[grid]\nseed = [1, 2]\n')
    command = ["compare", str(cache_path), "--config", str(tmp_path / "a.toml"), "-o", str(tmp_path / "grid")]
    shown = CliRunner().invoke(main, command)
    assert [line.split()[0] for line in shown.stdout.splitlines()[2:4]] == ["seed=1", "seed=2"]
    again = CliRunner().invoke(main, [*command, "--json"])
    assert [entry["found"] for entry in json.loads(again.stdout)] == [True, True]
    for option in (["--seed", "1"], ["--fail-under", "accuracy>=0"]):
        refused = CliRunner().invoke(main, [*command, *option])
        assert refused.exit_code == 2
        assert "[grid]" in refused.stderr


def test_a_kernel_matrix_is_computed_once(monkeypatch):
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(60, 8)).astype(np.float32), ["a", "b", "c"] * 20
    alone = [make_head("svm", C=c).fit(X, y) for c in (0.1, 1.0)]
    computed = []
    monkeypatch.setattr(svm, "rbf_matrix", lambda *given: computed.append(given) or rbf_matrix(*given))
    with sharing():
        together = [make_head("svm", C=c).fit(X.copy(), y) for c in (0.1, 1.0)]
    assert len(computed) == 1
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.dual_coef_, other.dual_coef_)
        assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
