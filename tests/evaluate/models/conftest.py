"""Fixtures of the tests of models."""

from __future__ import annotations

import json

import pytest
from embedonce.evaluate.models import explanation, image_model


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
