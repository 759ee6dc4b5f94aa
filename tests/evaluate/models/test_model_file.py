from __future__ import annotations

import embedonce as eo
import numpy as np
import pytest
from embedonce.errors import ModelFileError, SplitError
from embedonce.evaluate.models import exporting
from embedonce.evaluate.models.model_file import ModelFile


@pytest.mark.usefixtures("one_backbone")
def test_every_way_to_save_a_model_gives_a_usable_file(cache, images, tmp_path, monkeypatch):
    train_rows = np.arange(0, len(cache), 2)
    head = eo.make_head("svm").fit(cache[train_rows], cache.label_names[train_rows])
    eo.save_head(head, tmp_path / "saved.npz", cache=cache, rows=train_rows)
    comparison = eo.compare(cache, ["svm"], split="random", seed=1)
    comparison.result("svm").save_model(tmp_path / "compared.npz")
    train_count = len(comparison.split.train)
    trained = eo.train(cache, "svm", tmp_path / "trained.npz").path  # other tests export it
    for path, rows in ((trained, 57), (tmp_path / "saved.npz", 36), (tmp_path / "compared.npz", train_count)):
        expected = ModelFile.open(path).head.predict(cache.features[:24]).tolist()
        assert [prediction.classes[0][0] for prediction in eo.predict(path, images / "ash")] == expected
        assert eo.evaluate_model(path, cache).left_out == rows
    taken = []  # in place of the image model, which is the same for every file of a head
    monkeypatch.setattr(exporting, "build_image_model", lambda *given: None)
    monkeypatch.setattr(exporting, "save_image_model", lambda *given: taken.append(given) or 0.0)
    for path in (tmp_path / "saved.npz", tmp_path / "compared.npz"):
        assert eo.explain(path, images / "ash" / "000.jpg").method == "grad-cam"
        assert eo.export(path, path.with_suffix(".keras"), check=1).checked == 1
        _, _, reference, metadata, exported = taken.pop()
        assert len(reference.images) == len(reference.expected) == 1
        assert {"fingerprint", "class_names", "parameters", "trained_on"} <= set(metadata)
        expected = ModelFile.open(path).head.predict_proba(cache.features)
        np.testing.assert_array_equal(exported.predict_proba(cache.features), expected)
    scores = eo.evaluate_model(tmp_path / "compared.npz", cache).result.scores
    assert scores["accuracy"] == comparison.result("svm").scores["accuracy"]


def test_a_head_of_every_row_cannot_be_scored_on_its_cache(cache, tmp_path):
    head = eo.make_head("logreg").fit(cache.features, cache.label_names)
    eo.save_head(head, tmp_path / "a.npz", cache=cache)
    with pytest.raises(SplitError, match="trained on every one of these images"):
        eo.evaluate_model(tmp_path / "a.npz", cache)


def test_a_model_file_is_read_when_it_is_used(cache, tmp_path):
    head = eo.make_head("dummy").fit(cache.features, cache.label_names)
    eo.save_head(head, tmp_path / "a.joblib", {"head": "dummy"})
    file = ModelFile.open(tmp_path / "a.joblib")
    assert (file.metadata["head"], file.training_hashes) == ("dummy", [])
    with pytest.raises(ModelFileError, match="runs code when it is loaded"):
        file.head  # noqa: B018
    with pytest.raises(ModelFileError, match="does not say how its features were made"):
        file.source  # noqa: B018
    with pytest.raises(ModelFileError, match="needs the cache that it was trained on"):
        file.open_cache()
    trusted = ModelFile.open(tmp_path / "a.joblib", trust=True)
    assert trusted.head is trusted.head
    assert trusted.classes == cache.class_names
