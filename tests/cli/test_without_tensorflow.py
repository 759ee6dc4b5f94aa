"""The commands on a machine whose TensorFlow is missing or broken."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import MissingPackageError
from embedonce.extract.engines import engines
from embedonce.extract.engines.native import why_not_native
from embedonce.extract.recipe import make_recipe

needs_native = pytest.mark.skipif(bool(why_not_native()), reason="the native engine cannot run here")
RUN = """
import importlib.abc, os, sys
from click.testing import CliRunner

class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras"):
            raise {error}

sys.meta_path.insert(0, Broken())
os.environ.pop("EMBEDONCE_ENGINE", None)
os.environ["EMBEDONCE_HOME"] = sys.argv[2]
from embedonce.cli.app import main as cli
from embedonce.evaluate.shared import plots
plots.save_figure = lambda figure, *paths: [path.touch() for path in paths]  # drawing takes most of the time
images, folder, stored = sys.argv[1:4]
cache, model, image = folder + "/a.h5", folder + "/a.npz", images + "/ash/000.jpg"
small = ["--weights", "random:0", "--alpha", "0.35", "--image-size", "64"]
works = [
    ["extract", images, cache, *small],
    ["info", cache],
    ["verify", cache, "--images", images],
    ["train", cache, "--head", "softmax", "--split", "none", "-o", model],
    ["predict", model, image],
    ["explain", model, image, "-o", folder + "/a.png"],
    ["explain", model, image, "-o", folder + "/a.png", "--engine", "native"],
    ["doctor", *small],
    ["compare", stored, "--heads", "softmax,logreg,svm", "-p", "softmax.epochs=1", "-o", folder + "/run", "--figures", "none"],
    ["tune", stored, "--head", "knn", "--trials", "1", "--folds", "2", "-o", folder + "/tuned"],
    ["train", stored, "--head", "svm", "-o", folder + "/b.npz"],
    ["evaluate", folder + "/b.npz", stored],
]
needs = [
    ["extract", images, folder + "/b.h5", *small, "--engine", "keras"],
    ["predict", model, image, "--engine", "keras"],
    ["explain", model, image, "-o", folder + "/a.png", "--engine", "keras"],
    ["train", cache, "--head", "softmax", "--split", "none", "-o", folder + "/a.keras"],
    ["export", model, "-o", folder + "/a.tflite"],
]
for command in works:
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, (command, result.output, result.exception)
for command in needs:
    result = CliRunner().invoke(cli, command)
    last = result.output.splitlines()[-1]
    assert result.exit_code == 1 and "needs Keras and TensorFlow, which cannot be imported (no DLL)" in last, (command, last)
    assert ("engine native" in last) == ("keras" in command), last
print(len(works) + len(needs))
"""


@needs_native
@pytest.mark.parametrize("error", ["ModuleNotFoundError('no DLL')", "RuntimeError('no DLL\\nat all')"])
def test_commands_without_tensorflow(images, cache_path, tmp_path, python, error):
    assert python(RUN.replace("{error}", error), images, tmp_path, cache_path) == "17\n"


@pytest.fixture
def no_conversion(monkeypatch):
    def fail(recipe):
        raise MissingPackageError("this needs TensorFlow")

    monkeypatch.delenv("EMBEDONCE_ENGINE")
    monkeypatch.setattr(engines, "remembered_engine", lambda alpha: "litert")
    monkeypatch.setattr(engines, "load_prepared", lambda recipe, engine: None)
    monkeypatch.setattr(engines.LiteRTEngine, "prepare", fail)


@needs_native
def test_auto_is_native_if_litert_cannot_be_prepared(no_conversion):
    assert engines.make_engine("auto", make_recipe("random:0", 0.35, 64)).name == "native"
    with pytest.raises(MissingPackageError, match="engine litert: .*engine native"):
        engines.make_engine("litert", make_recipe("random:0", 0.35, 64))


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"threads": 2}])
def test_native_does_not_replace_other_options(no_conversion, options):
    recipe = make_recipe("random:0", 0.35, 64, options.get("precision", "float32"))
    with pytest.raises(MissingPackageError, match="this needs TensorFlow$"):
        engines.make_engine("auto", recipe, options.get("threads"))


def test_the_plain_feature_map_is_that_of_keras():
    from embedonce.extract.backbone import build_backbone, feature_map

    recipe = make_recipe("random:0", 0.35, 64)
    image = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    expected = feature_map(build_backbone(recipe.weights, 0.35, 64), image)
    np.testing.assert_allclose(engines.plain_feature_map(recipe, image), expected, atol=1e-4)
