"""Importing Keras with its default settings, and silencing native code, also in several threads at once."""

from __future__ import annotations

import json

import pytest
from embedonce._keras import import_keras
from embedonce.errors import EngineError

THREADS = """
import threading, time
from embedonce._keras import quiet_native_output

def silent():
    with quiet_native_output():
        time.sleep(0.05)

threads = [threading.Thread(target=silent) for _ in range(2)]
for thread in threads:
    thread.start()
    time.sleep(0.02)  # the second begins while the first is silent, and ends after it
for thread in threads:
    thread.join()
print("heard")
"""

NESTED = """
import os
from embedonce._keras import quiet_native_output

with quiet_native_output():
    with quiet_native_output():
        os.write(1, b"inner ")
    os.write(1, b"outer ")
os.write(1, b"heard")
"""


CLOSED = """
import os, sys
from embedonce._keras import quiet_native_output
from embedonce.extract.progress import make_progress

os.close(2)
sys.stderr = None
with quiet_native_output():
    os.write(1, b"inner ")
make_progress(True).say("not shown")
print("heard")
"""


def test_output_is_back_after_threads_were_silent_at_once(python):
    assert python(THREADS) == "heard\n"


def test_without_a_standard_error_there_is_less_to_silence(python):
    assert python(CLOSED) == "heard\n"


def test_silence_within_silence_ends_with_the_outer_one(python):
    assert python(NESTED) == "heard"


EMBED = """
import sys
import embedonce
cache = embedonce.extract_features(sys.argv[1], sys.argv[2], weights="random:0", alpha=0.35, image_size=32, engine="keras")
head = embedonce.make_head("softmax", epochs=1).fit(cache.features, cache.label_names)
assert head.model_.predict(cache.features[:2], verbose=0).dtype == "float32"
print(cache.features[:, :9].tolist())
"""


@pytest.mark.slow
def test_settings_of_keras_json_change_nothing(python, make_images, tmp_path, monkeypatch):
    images = make_images(tmp_path / "images", per_class=2)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    found = []
    for name, settings in (
        ("plain", {}),
        ("set", {"floatx": "float16", "image_data_format": "channels_first", "backend": "torch", "epsilon": 1e-3}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keras.json").write_text(json.dumps(settings))
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / name))
        found.append(python(EMBED, images, tmp_path / f"{name}.h5"))
    assert found[0] == found[1]


@pytest.mark.parametrize(("name", "value"), [("floatx", "float16"), ("image_data_format", "channels_first")])
def test_settings_that_the_user_made_are_named_not_changed(name, value):
    keras = import_keras()
    before = getattr(keras.config, name)()
    change = getattr(keras.config, f"set_{name}")
    change(value)
    try:
        with pytest.raises(EngineError, match=f"setting {name} of Keras must be '{before}', got '{value}'"):
            import_keras()
        assert getattr(keras.config, name)() == value
    finally:
        change(before)
