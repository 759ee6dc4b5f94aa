from __future__ import annotations

import pytest
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
    assert list(heads) == ["softmax", "logreg", "svm", "sharp-svm"]
    assert heads["softmax"] == {"epochs": 5}
    assert heads["sharp-svm"] == {"head": "svm", "C": 10.0}
    everything = path.read_text().replace("# split", "split").replace("# groups", "groups")
    for key in (
        "folds",
        "repeats",
        "class_weight",
        "calibrate",
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
    assert options["fail_under"] == ["accuracy=0.9"]
    assert options["image_models"] == ["tuned.keras"]
    assert make_heads(heads)["forest"].n_estimators == 300


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = written(tmp_path, "seed = 3\n")
    with pytest.raises(OutputError, match="exists and is not replaced"):
        write_config(path)
    assert path.read_text() == "seed = 3\n"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("seed = ", ParameterError, "is not TOML"),
        ("sed = 3", ParameterError, "must hold cache, output, .* got 'sed'"),
        ("seed = true", ParameterError, "key seed .* must be a number, got True"),
        ('folds = "5"', ParameterError, "key folds .* must be a number, got '5'"),
        ("fail_under = [1]", ParameterError, "key fail_under .* must be a list of texts"),
        ("heads = 3", ParameterError, "key heads .* must be tables"),
        ("[heads.nonsense]", HeadError, "nonsense"),
        ("[heads.svm]\nZ = 3", HeadParameterError, "has no parameter 'Z'"),
        ('[heads.mine]\nhead = "svm"\nZ = 3', HeadParameterError, "head 'svm' has no parameter 'Z'"),
        ("[heads.svm]\nhead = 3", HeadParameterError, "head 'svm' has no parameter 'head'"),
    ],
)
def test_an_error_names_the_incorrect_key_or_value(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_config(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match="cannot read the file .*none.toml"):
        read_config(tmp_path / "none.toml")
