from __future__ import annotations

import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import HeadError, HeadParameterError, OutputError, ParameterError
from embedonce.evaluate.comparison.config import read_config, write_config
from embedonce.evaluate.scoring.heads import make_heads


def written(tmp_path, text):
    path = tmp_path / "heads.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_template_can_be_read_and_has_every_key(tmp_path):
    path = tmp_path / "heads.toml"
    write_config(path)
    options, heads = read_config(path)
    assert options == {"cache": "photos.h5", "output": "runs/photos", "seed": 0}
    assert list(heads) == ["logreg", "svm", "softmax", "soft-svm"]
    assert heads["softmax"] == {"epochs": "auto"}
    assert heads["soft-svm"] == {"head": "svm", "C": 1.0}
    everything = path.read_text().replace("# split", "split").replace("# groups", "groups")
    for key in (
        "folds",
        "repeats",
        "class_weight",
        "calibrate",
        "views",
        "tune",
        "learning_curve",
        "image_models",
        "jobs",
        "fail_under",
        "[heads.forest]",
        'head = "sklearn',
    ):
        everything = everything.replace(f"# {key}", key)
    everything = everything.replace("# n_est", "n_est").replace("# random_state", "random_state")
    options, heads = read_config(written(tmp_path, everything))
    assert options["fail_under"] == ["accuracy>=0.9"]
    assert options["image_models"] == ["tuned.keras"]
    assert make_heads(heads)["forest"].n_estimators == 300


def test_heads_of_the_template_differ(tmp_path):
    write_config(tmp_path / "heads.toml")
    heads = make_heads(read_config(tmp_path / "heads.toml")[1]).values()
    assert len({(type(head), repr(sorted(head.get_params().items()))) for head in heads}) == 4


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = written(tmp_path, "seed = 3\n")
    with pytest.raises(OutputError, match="exists and is not replaced"):
        write_config(path)
    assert path.read_text() == "seed = 3\n"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("seed = ", ParameterError, "is not TOML"),
        ("\n sed= 3", ParameterError, "^line 2 of the file .* must be one of cache, output, .* got 'sed'"),
        ("seed = true", ParameterError, "key seed in line 1 of the file .* must be a number, got True"),
        ('folds = "5"', ParameterError, "key folds .* must be a number, got '5'"),
        ("fail_under = [1]", ParameterError, "key fail_under .* must be a list of texts"),
        ("heads = 3", ParameterError, "key heads .* must be tables"),
        ("seed = 1\n[heads.nonsense]", HeadError, r"^\[heads.nonsense\] in line 2 of the file .*: there is no head"),
        ("[heads.svm]\nZ = 3", HeadParameterError, "line 1 of the file .* has no parameter 'Z'"),
        ('[heads.mine]\nhead = "svm"\nZ = 3', HeadParameterError, "head 'svm' has no parameter 'Z'"),
        ("[heads.svm]\nhead = 3", HeadParameterError, "head 'svm' has no parameter 'head'"),
    ],
)
def test_an_error_names_the_incorrect_key_or_value(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_config(written(tmp_path, text))


def test_a_byte_order_mark_is_not_part_of_the_file(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf[heads.logreg]\n")
    assert read_config(tmp_path / "a.toml") == ({}, {"logreg": {}})


@pytest.mark.parametrize(
    "content", [None, b"seed = ", b"\xff\xfes\0e\0e\0d\0", b"sed = 1", b"folds = true", b"[heads.nosuch]"]
)
def test_the_command_refuses_any_faulty_file_in_one_line(cache_path, tmp_path, content):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(main, ["compare", str(cache_path), "--config", str(path), "-o", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert "a.toml" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match="cannot read the file .*none.toml"):
        read_config(tmp_path / "none.toml")


def test_nesting_without_end_is_an_error(tmp_path):
    (tmp_path / "a.toml").write_text("heads = " + "[" * 200_000)
    with pytest.raises(ParameterError, match=r"the file .*a\.toml is not TOML"):
        read_config(tmp_path / "a.toml")
