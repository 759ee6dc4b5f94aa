"""Image models resize as the extraction did, in Keras and in LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce import export, extract_features, predict, train
from embedonce._keras import import_keras
from embedonce.evaluate.models.litert_classifier import LiteRTClassifier
from embedonce.evaluate.models.resizing_layers import resized_as_trained
from embedonce.extract.decoding import decode
from embedonce.extract.engines.convert import converter_for
from embedonce.extract.options import RESIZES
from embedonce.extract.resizing import resize

SHAPES = [(40, 60), (61, 40), (1, 50), (50, 1), (1, 1), (31, 33), (32, 32), (301, 200), (7, 700)]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "antialias"), RESIZES)
def test_layers_resize_as_the_extraction(tmp_path, how, antialias):
    keras = import_keras()
    image = keras.Input((None, None, 3))
    keras.Model(image, resized_as_trained(image, 32, how, antialias)).save(tmp_path / "a.keras")
    model = keras.models.load_model(tmp_path / "a.keras", safe_mode=True)
    lite = LiteRTClassifier(converter_for(model, (1, None, None, 3), "uint8").convert())
    for height, width in SHAPES:
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = resize(pixels, 32, how, antialias)
        np.testing.assert_allclose(model.predict_on_batch(np.stack([pixels, pixels]))[1], expected, atol=1e-3)
        np.testing.assert_allclose(lite(pixels[None])[0], expected, atol=1e-3)


@pytest.mark.slow
def test_exported_models_predict_as_their_heads(tmp_path, draw, small):
    for kind, name in enumerate(("ash", "birch")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(5):
            draw(kind, number, 60 + 40 * number, 170).save(tmp_path / "images" / name / f"{number}.png")
    cache = extract_features(tmp_path / "images", tmp_path / "a.h5", resize="pad", antialias=True, **small)
    train(cache, "logreg", tmp_path / "m.npz", split="random")
    file = tmp_path / "images" / "birch" / "0.png"
    (expected,) = predict(tmp_path / "m.npz", file)
    for suffix in (".keras", ".tflite"):
        assert export(tmp_path / "m.npz", tmp_path / f"m{suffix}").checked >= 2
    lite = LiteRTClassifier((tmp_path / "m.tflite").read_bytes())
    probabilities = lite(decode(file.read_bytes())[None])[0]
    assert dict(expected.classes)["birch"] == pytest.approx(probabilities[1], abs=1e-3)
