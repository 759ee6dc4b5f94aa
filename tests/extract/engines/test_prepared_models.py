"""The store of prepared backbones gives what was stored, or nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from embedonce.extract.backbone.architecture import random_weights
from embedonce.extract.engines import prepared_models as store
from embedonce.extract.recipe import make_recipe


@pytest.fixture(params=["float32", "int8"])
def recipe(request, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    return make_recipe("random:3", 0.35, 64, request.param)


@pytest.fixture
def prepared(recipe):
    model = np.random.default_rng(0).bytes(200)
    prepared = store.make_prepared_model(recipe, random_weights(3, 0.35), model, "tensorflow 9.9")
    store.store_prepared(recipe, "litert", prepared)
    return prepared


@pytest.mark.parametrize("suffix", [".json", ".tflite"])
def test_no_changed_byte_gives_another_backbone(recipe, prepared, suffix):
    path = store._path(recipe).with_suffix(suffix)
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            hashes = store.known_hashes(recipe)
            assert hashes in (None, prepared.hashes)
            loaded = store.load_prepared(recipe, "litert")
            assert loaded in (None, prepared)
            refused += loaded is None
    assert refused > 7 * len(content)
    path.write_bytes(content)
    assert store.load_prepared(recipe, "litert") == prepared


def test_what_is_damaged_is_stored_again(recipe, prepared):
    path = store._path(recipe).with_suffix(".json")
    for text in (path.read_bytes().replace(b"0", b"1"), b"[]", b"3", b"{}", b"[" * 100_000, b"\xff", b'{"a": NaN}'):
        path.write_bytes(text)
        assert store.load_prepared(recipe, "litert") is None
        assert store.any_prepared(0.35, 64, "litert") is None
        store.store_weights_hash(recipe, prepared.hashes["weights_sha256"])
        assert json.loads(path.read_text())["weights_sha256"] == prepared.hashes["weights_sha256"]
        store.store_prepared(recipe, "litert", prepared)
        assert store.load_prepared(recipe, "litert") == prepared


def test_a_store_in_which_files_are_folders_is_no_error(recipe, prepared):
    for suffix in (".tflite", ".json"):
        path = store._path(recipe).with_suffix(suffix)
        path.unlink()
        path.mkdir()
        assert store.load_prepared(recipe, "litert") is None
