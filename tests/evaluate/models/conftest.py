"""Fixtures of the tests of models."""

from __future__ import annotations

import json

import pytest
from embedonce._keras import import_keras
from embedonce.evaluate.models import explanation, exporting, image_model, training


@pytest.fixture(scope="module")
def one_backbone():
    """The models of a module are of one backbone, which takes seconds to build: each is built once."""
    original, built = image_model.backbone_of, {}

    def once(source, weights=None):
        key = json.dumps([source.fingerprint, source.provenance, str(weights)], sort_keys=True)
        if key not in built:
            built[key] = original(source, weights)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (image_model, explanation):
            patch.setattr(module, "backbone_of", once)
        yield


@pytest.fixture
def other_image_model(monkeypatch):
    """Image models are made without backbone and head: small, and of other probabilities."""
    keras = import_keras()
    image = keras.Input((None, None, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(pooled))
    for module in (exporting, training):
        monkeypatch.setattr(module, "build_image_model", lambda *given: model)
