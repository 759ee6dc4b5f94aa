from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from embedonce.cache import FeatureCache
from embedonce.cli.app import main
from saving import without_pictures
from sklearn import datasets
from sklearn.utils import Bunch

SMALL = ["--weights", "random:0", "--alpha", "0.35", "--image-size", "64"]


@pytest.fixture
def call():
    """Return a function that runs a command without pictures and returns its result, asserting the exit status."""

    def run(*arguments, status=0):
        with without_pictures():
            result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def fails(call):
    """Return a function that runs a command that must fail with one line, and returns the line."""

    def run(*arguments, status=2):
        (line,) = call(*arguments, "-q", status=status).stderr.splitlines()
        assert line.startswith("Error: ")
        return line

    return run


def test_workflow_from_images_to_evaluation(call, make_images, tmp_path):
    images, cache, runs = make_images(tmp_path / "images", per_class=12), tmp_path / "a.h5", tmp_path / "runs"
    assert "Embedded 36 images" in call("extract", images, cache, *SMALL).stdout
    assert "Nothing to embed" in call("extract", images, cache, *SMALL).stdout
    shown = call("info", cache).stdout
    assert "random:0 - RANDOM" in shown
    assert "birch" in shown
    compared = call("compare", cache, "--heads", "logreg,svm,softmax", "-p", "svm.C=1", "-o", runs).stdout
    assert "accuracy" in compared
    assert "random weights" in compared
    assert json.loads((runs / "results.json").read_text())["heads"][1]["parameters"]["C"] == 1
    trained = call("train", cache, "--head", "softmax", "-p", "epochs=2", "-o", tmp_path / "models" / "a.keras").stdout
    assert "agrees with the cached features on 16 of 16 images" in trained
    assert "left out" in call("evaluate", tmp_path / "models" / "a.keras", cache).stdout


def test_json_is_printed_with_json(call, images, cache_path, tmp_path):
    extracted = json.loads(call("extract", images, tmp_path / "a.h5", *SMALL, "--json").stdout)
    assert extracted["embedded"] == 72
    assert extracted["rejects"] == []
    assert json.loads(call("info", cache_path, "--json").stdout)["classes"] == {"ash": 24, "birch": 24, "cedar": 24}
    arguments = ("compare", cache_path, "--heads", "logreg", "--split", "random", "-o", tmp_path / "runs", "--json")
    printed = json.loads(call(*arguments).stdout)
    assert (
        printed["heads"][0]["accuracy"]
        == json.loads((tmp_path / "runs" / "results.json").read_text())["heads"][0]["accuracy"]
    )
    trained = call("train", cache_path, "--head", "logreg", "-o", tmp_path / "a.npz", "--json").stdout
    assert json.loads(trained)["scores"]["accuracy"] > 0.5
    scored = call("evaluate", tmp_path / "a.npz", cache_path, "--json").stdout
    assert json.loads(scored)["images"] == 15


def test_split_file_gives_the_same_predictions(call, cache_path, tmp_path):
    split = tmp_path / "one" / "split.csv"
    call("compare", cache_path, "--heads", "logreg", "--seed", "5", "-o", tmp_path / "one")
    call("compare", cache_path, "--heads", "logreg", "--split", split, "-o", tmp_path / "two")
    assert (tmp_path / "one" / "predictions.csv").read_bytes() == (tmp_path / "two" / "predictions.csv").read_bytes()


def test_parallel_heads_give_the_same_results(call, fails, cache_path, tmp_path):
    command = ("compare", cache_path, "--heads", "logreg,dummy,knn", "--split", "random", "-o")
    many = call(*command, tmp_path / "many", "--jobs", 2)
    one = call(*command, tmp_path / "one")
    assert "at the same time" in many.stdout
    assert "at the same time" not in one.stdout
    assert many.stderr.startswith("training logreg …\n")
    assert one.stderr.startswith("training logreg …\n")
    assert (tmp_path / "one" / "predictions.csv").read_bytes() == (tmp_path / "many" / "predictions.csv").read_bytes()
    results = json.loads(call(*command, tmp_path / "json", "--jobs", 3, "--json").stdout)
    assert [entry["head"] for entry in results["heads"]] == ["logreg", "dummy", "knn"]
    line = fails(*command, tmp_path / "bad", "--jobs", 2, "-p", "logreg.C=-1")
    assert line == "Error: parameter C of head 'logreg' must be a number above 0, got -1"
    line = fails(*command, tmp_path / "bad", "--jobs", 2, "--dask", "tcp://127.0.0.1:1")
    assert "parameter jobs of compare" in line


def test_training_on_all_images(call, cache_path, tmp_path):
    shown = call("train", cache_path, "--head", "knn", "--split", "none", "-o", tmp_path / "a.npz").stdout
    assert "Trained on 72 images" in shown


def test_a_head_on_int8_features_is_written_alone(call, fails, make_images, tmp_path):
    images, cache = make_images(tmp_path / "images"), tmp_path / "a.h5"
    assert "Embedded 24" in call("extract", images, cache, *SMALL, "--precision", "int8", "--threads", 2).stdout
    assert "int8" in call("info", cache).stdout
    options = ("train", cache, "--head", "softmax", "-p", "epochs=2", "--split", "random")
    line = fails(*options, "-o", tmp_path / "new" / "a.keras", status=1)
    assert "holds features of precision int8" in line
    assert "write the head alone, to a file that ends in .npz" in line
    assert not (tmp_path / "new").exists()  # it was refused before the work
    assert "Trained on 19 images" in call(*options, "-o", tmp_path / "a.npz").stdout
    assert "left out" in call("evaluate", tmp_path / "a.npz", cache).stdout


def test_image_model_of_reduced_images_has_a_note(call, make_images, draw, tmp_path):
    images = make_images(tmp_path / "images")
    for number in range(4):
        draw(0, number, 150, 200).save(images / "ash" / f"large{number}.jpg")
    cache, model = tmp_path / "a.h5", tmp_path / "a.keras"
    call("extract", images, cache, *SMALL, "--decoding", "reduced")
    shown = call("train", cache, "--head", "softmax", "-p", "epochs=2", "-o", model).stdout
    assert "agrees with the cached features on 16 of 16 images" in shown
    assert "on large images that were decoded whole, it is a little off" in shown


def test_rejects_are_counted_and_shown(call, fails, make_images, tmp_path):
    images = make_images(tmp_path / "images")
    for number in range(7):
        (images / "ash" / f"bad{number}\n.jpg").write_bytes(b"")
    shown = call("extract", images, tmp_path / "a.h5", *SMALL).stdout
    assert "7 images could not be embedded" in shown
    assert "ash/bad0\\n.jpg: the file is empty" in shown
    assert call("info", tmp_path / "a.h5").stdout.count("the file is empty") == 7
    line = fails("extract", images, tmp_path / "b.h5", *SMALL, "--strict", status=1)
    assert "7 images cannot be embedded (--strict)" in line


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["extract", "{tmp}/none", "{tmp}/a.h5", *SMALL], 2, "the image folder {tmp}/none does not exist"),
        (["extract", "{tmp}/empty", "{tmp}/a.h5", *SMALL], 2, "has no images"),
        (["extract", "{images}", "{tmp}/a.h5", "--weights", "{tmp}/none.h5"], 2, "which does not exist"),
        (
            ["extract", "{images}", "{tmp}/a.h5", "--weights", "{tmp}/text.h5"],
            2,
            "text.h5: this file is not a Keras file",
        ),
        (["extract", "{images}", "{tmp}/a.h5", "--alpha", "0"], 2, "parameter alpha of extract must be"),
        (["extract", "{images}", "{cache}", *SMALL[:-1], "96"], 2, "image_size is 64 there, 96 here"),
        (["extract", "{images}", "{cache}", *SMALL, "--precision", "int8"], 2, "dtype is float32 there, int8 here"),
        (["extract", "{images}", "{cache}", *SMALL, "--decoding", "reduced"], 2, "large JPEG reduced here"),
        (
            ["extract", "{images}", "{tmp}/a.h5", "--precision", "int8", "--engine", "keras"],
            2,
            "must be auto or litert",
        ),
        (["extract", "{images}", "{tmp}/text.h5", *SMALL], 1, "text.h5 is not a readable feature cache"),
        (["extract", "{images}", "{tmp}/text.h5/a.h5", *SMALL], 1, "the folder of the cache"),
        (["info", "{tmp}/none.h5"], 1, "none.h5: No such file or directory. Make it with: embedonce extract"),
        (["info", "{tmp}/text.h5"], 1, "text.h5 is not a readable feature cache"),
        (["compare", "{cache}", "--heads", "nope", "-o", "{tmp}/r"], 2, "there is no head 'nope'"),
        (["compare", "{cache}", "--heads", "logreg,logreg", "-o", "{tmp}/r"], 2, "name every head once"),
        (["compare", "{cache}", "-p", "svm.D=1", "-o", "{tmp}/r"], 2, "head 'svm' has no parameter 'D'"),
        (["compare", "{cache}", "-p", "C=1", "-o", "{tmp}/r"], 2, "option --param must be HEAD.NAME=VALUE"),
        (
            ["compare", "{cache}", "--heads", "logreg", "--split", "random", "-p", "logreg.C=-1", "-o", "{tmp}/r"],
            2,
            "parameter C of head 'logreg' must be a number above 0, got -1",
        ),
        (["compare", "{cache}", "--heads", "os:path", "-o", "{tmp}/r"], 2, "os:path"),
        (["compare", "{cache}", "--split", "magic", "-o", "{tmp}/r"], 2, "parameter split must be random or"),
        (["compare", "{cache}", "--heads", "logreg", "-o", "{tmp}/text.h5"], 1, "the folder of results"),
        (["train", "{cache}", "--head", "logreg", "-o", "{tmp}/a.keras"], 2, "must end in .npz or .joblib"),
        (["train", "{cache}", "--head", "logreg", "-o", "{tmp}/text.h5/a.npz"], 1, "the folder of the model"),
        (["train", "{cache}", "--head", "logreg", "-p", "C", "-o", "{tmp}/a.npz"], 2, "must be NAME=VALUE, got 'C'"),
        (["verify", "{tmp}/none.h5"], 1, "none.h5: No such file"),
        (["verify", "{tmp}/text.h5"], 1, "text.h5 is not a readable feature cache"),
        (["verify", "{cache}", "--images", "{tmp}/empty"], 2, "has no images"),
        (["verify", "{cache}", "--images", "{images}", "--weights", "random:1"], 2, "weights_sha256 is"),
        (["pack", "{cache}", "{tmp}/b.h5"], 1, "is one file already"),
        (["pack", "{tmp}/empty", "{tmp}/b.h5"], 1, "is not a feature cache"),
        (["extract", "{images}", "{tmp}", *SMALL], 1, "is a folder with other things in it"),
        (["evaluate", "{tmp}/none.npz", "{cache}"], 1, "there is no such file"),
        (["evaluate", "{tmp}/text.h5", "{cache}"], 2, "suffix"),
    ],
)
def test_bad_input_gets_one_line_and_loses_nothing(fails, images, cache_path, tmp_path, arguments, status, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("my thesis")
    cache = tmp_path / "cache.h5"
    shutil.copy(cache_path, cache)
    places = {"tmp": tmp_path, "images": images, "cache": cache}
    line = fails(*(text.format(**places) for text in arguments), status=status)
    assert message.format(**places) in line
    assert (tmp_path / "text.h5").read_text() == "my thesis"
    assert cache.read_bytes() == cache_path.read_bytes()


def test_a_class_of_one_image_is_explained(call, fails, make_images, draw, tmp_path):
    images = make_images(tmp_path / "images", per_class=3)
    (images / "lone").mkdir()
    draw(1, 1).save(images / "lone" / "1.png")
    call("extract", images, tmp_path / "a.h5", *SMALL)
    assert "lone has 1" in fails("compare", tmp_path / "a.h5", "-o", tmp_path / "r")


def test_names_that_are_not_utf8_work_everywhere(call, draw, tmp_path):
    for kind, name in enumerate((b"caf\xe9", b"plain")):
        folder = os.path.join(os.fsencode(tmp_path), b"images", name)
        os.makedirs(folder)
        for number in range(6):
            with open(os.path.join(folder, b"\xff%d.png" % number), "wb") as file:
                draw(kind, number).save(file, format="PNG")
    call("extract", tmp_path / "images", tmp_path / "a.h5", *SMALL)
    assert "caf\\xe9" in call("info", tmp_path / "a.h5").stdout
    call("info", tmp_path / "a.h5", "--json")
    call("compare", tmp_path / "a.h5", "--heads", "logreg,softmax", "-o", tmp_path / "r")
    again = ("--split", tmp_path / "r" / "split.csv", "-o", tmp_path / "s")
    call("compare", tmp_path / "a.h5", "--heads", "logreg", *again)
    for head, name in (("softmax", "a.keras"), ("logreg", "a.npz"), ("knn", "a.joblib")):
        call("train", tmp_path / "a.h5", "--head", head, "-o", tmp_path / name)
        call("evaluate", tmp_path / name, tmp_path / "a.h5", "--trust")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])  # click writes UTF-8 where it finds ASCII
def test_output_has_only_characters_of_its_encoding(draw, tmp_path, monkeypatch, encoding):
    for kind, name in enumerate(("\u732b", "caf\xe9")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            draw(kind, number).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    monkeypatch.chdir(tmp_path)
    options = ("--head", "dummy", "--split", "random", "-o", "a.npz", "--debug")
    for command in (("extract", "images", "a.h5", *SMALL), ("info", "a.h5"), ("train", "a.h5", *options)):
        done = subprocess.run([sys.executable, "-m", "embedonce", *command], capture_output=True)
        assert done.returncode == 0, done.stderr
        shown = done.stdout.decode(encoding)
        assert "\\u2500" not in shown
        if command[0] == "info":
            assert "\\u732b" in shown
            assert "caf\xe9" in shown


def test_a_traceback_is_shown_only_with_debug(tmp_path):
    command = [sys.executable, "-m", "embedonce", "info", str(tmp_path / "none.h5")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert "Traceback" not in plain.stderr
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in debug.stderr
    assert "CacheError" in debug.stderr


def test_quiet_prints_results_without_progress(call, cache_path, tmp_path):
    arguments = ["compare", cache_path, "--heads", "logreg", "--split", "random", "-o", tmp_path / "out"]
    quiet, plain = call(*arguments, "-q"), call(*arguments)
    assert quiet.stderr == ""
    assert "training logreg" in plain.stderr
    assert quiet.stdout.splitlines()[0].split()[:2] == ["head", "accuracy"]
    assert "Next: embedonce train" in plain.stdout
    assert "Next:" not in quiet.stdout


def test_verbose_prints_what_is_done_with_times(call, cache_path, tmp_path):
    arguments = ["train", cache_path, "--head", "logreg", "-o", tmp_path / "a.npz", "--json"]
    result = call(*arguments, "--verbose")
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} training logreg", result.stderr, re.MULTILINE)
    assert json.loads(result.stdout)["scores"]["accuracy"] > 0
    assert call(*arguments).stderr == ""  # and leaves the logger as it was
    assert "exclude each other" in call(*arguments, "-q", "-v", status=2).stderr


def test_an_interrupted_comparison_says_what_is_kept(call, cache_path, tmp_path, monkeypatch):
    import embedonce.evaluate.scoring.fit_many as module

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_as_finished", interrupted)
    result = call("compare", cache_path, "-o", tmp_path / "out", "--split", "random", status=130)
    assert result.stderr.endswith("Interrupted.\n")  # no head was finished


def test_an_interrupt_is_one_line_with_a_hint(call, images, tmp_path, monkeypatch):
    import embedonce.extract.run as module

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "embed_images", interrupted)
    result = call("extract", images, tmp_path / "a.h5", *SMALL, status=130)
    assert "Run the same command again to continue." in result.stderr


TERMINATED = """
import os, signal, sys
from embedonce.cli.app import main
from embedonce.extract import embed, progress

embed.SLICE_IMAGES = 1
done = 0

def advance(self, count):
    global done
    done += count
    if done == 10:
        os.kill(os.getpid(), signal.SIGTERM)

progress.Lines.advance = advance
main(sys.argv[1:])
"""


def test_a_terminated_run_keeps_its_work(call, images, tmp_path):
    arguments = ["extract", str(images), str(tmp_path / "a.h5"), *SMALL]
    ended = subprocess.run([sys.executable, "-c", TERMINATED, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 143, ended.stderr
    assert not (tmp_path / "a.h5").exists()
    report = json.loads(call(*arguments, "--json").stdout)
    assert report["resumed"] >= 10
    assert report["resumed"] + report["embedded"] == 72


def test_folder_of_shards_works_everywhere(call, images, tmp_path):
    shards, packed = f"{tmp_path / 'shards'}{os.sep}", tmp_path / "packed.h5"
    assert "Embedded 72 images" in call("extract", images, shards, *SMALL).stdout
    assert (tmp_path / "shards" / "manifest.json").is_file()
    assert "Nothing to embed" in call("extract", images, shards, *SMALL).stdout
    assert "72" in call("info", shards).stdout
    call("compare", shards, "--heads", "logreg", "--split", "random", "-o", tmp_path / "one")
    assert "72 x 1,280 features" in call("pack", shards, packed).stdout
    call("compare", packed, "--heads", "logreg", "--split", "random", "-o", tmp_path / "two")
    assert (tmp_path / "one" / "predictions.csv").read_bytes() == (tmp_path / "two" / "predictions.csv").read_bytes()
    assert json.loads(call("pack", shards, tmp_path / "b.h5", "--json").stdout)["images"] == 72


def test_verification_reports_damage_with_status_1(call, make_images, draw, tmp_path):
    images, cache = make_images(tmp_path / "images"), tmp_path / "a.h5"
    call("extract", images, cache, *SMALL)
    shown = call("verify", cache, "--images", images).stdout
    assert "intact: 24 images in one file" in shown
    assert "24 unchanged, 0 added, 0 changed, 0 moved, 0 removed" in shown
    assert "16 images, all agree: largest difference 0 " in shown
    assert json.loads(call("verify", cache, "--json").stdout)["ok"] is True
    for number in range(7):
        draw(0, 40 + number).save(images / "ash" / f"new{number}.png")
    (images / "birch" / "001.png").rename(images / "birch" / "moved.png")
    shown = call("verify", cache, "--images", images, "--sample", "0", status=1).stdout
    assert "added: ash/new0.png" in shown
    assert "… and 2 more; all of them with --json" in shown
    assert "moved: birch/001.png -> birch/moved.png" in shown
    assert "embedonce extract IMAGES CACHE" in shown
    row = FeatureCache.open(cache).features[-1].tobytes()
    cache.write_bytes(cache.read_bytes().replace(row, bytes(len(row))))
    shown = call("verify", cache, status=1).stdout
    assert "DAMAGED, but 23 images can still be used" in shown
    assert "the features of 1 image are damaged: cedar/007.bmp" in shown
    found = json.loads(call("verify", cache, "--json", status=1).stdout)
    assert (found["ok"], found["damaged"]) == (False, ["cedar/007.bmp"])
    assert "1 repaired" in call("extract", images, cache, *SMALL).stdout
    call("verify", cache, "--images", images)


@pytest.mark.parametrize(
    "command", ["info", "extract", "verify", "pack", "groups", "compare", "tune", "diff", "train", "evaluate"]
)
def test_every_command_with_results_has_json(command):
    assert "--json" in [option for param in main.commands[command].params for option in param.opts]


def test_options_override_the_configuration_file(call, fails, cache_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("init")
    assert "exists and is not replaced" in fails("init", status=1)
    text = f'cache = "{cache_path}"\noutput = "run"\nsplit = "random"\nseed = 3\nfail_under = ["log_loss=0"]\n'
    Path("heads.toml").write_text(text + '[heads.mine]\nhead = "logreg"\nC = 0.5\n[heads.dummy]\n')
    shown = call("compare", "--config", "heads.toml", status=1)
    assert "log_loss must be at most 0, the best head, mine, reaches" in shown.stderr
    results = json.loads(Path("run/results.json").read_text())
    assert [head["head"] for head in results["heads"]] == ["mine", "dummy"]
    assert results["heads"][0]["parameters"]["C"] == 0.5
    assert results["split"]["seed"] == 3
    call("compare", cache_path, "--config", "heads.toml", "--seed", 4, "--heads", "dummy", "-o", "b", status=1)
    results = json.loads(Path("b/results.json").read_text())
    assert [head["head"] for head in results["heads"]] == ["dummy"]
    assert results["split"]["seed"] == 4
    assert "split: seed: 3 -> 4" in call("diff", "run", "b").stdout
    call("compare", "--config", "heads.toml", "-p", "mine.C=2", "-o", "c", status=1)
    results = json.loads(Path("c/results.json").read_text())
    assert [head["head"] for head in results["heads"]] == ["mine", "dummy"]
    assert results["heads"][0]["parameters"]["C"] == 2
    text = fails("compare", "--config", "heads.toml", "-p", "mine.D=2", "-o", "d", status=2)
    assert "head 'logreg' has no parameter 'D'" in text
    assert json.loads(call("diff", "run", "b", "--json").stdout)["only_a"] == ["mine"]


def test_many_heads_have_one_sentence_on_the_best(call, cache_path, tmp_path):
    config = tmp_path / "heads.toml"
    tables = "".join(f'[heads.h{number}]\nhead = "knn"\n' for number in range(12))
    config.write_text(
        f'split = "random"\noutput = "{tmp_path.as_posix()}/out"\ncache = "{cache_path.as_posix()}"\n{tables}'
    )
    shown = call("compare", "--config", config).stdout
    assert shown.count("significan") + shown.count("tied") == 1
    assert re.search(r"h0 is .* (any of the|all) 11 other heads\. The report has the verdicts on all pairs\.", shown)


def test_invalid_head_parameters_fail_before_any_work(call, cache_path, tmp_path):
    options = ["--heads", "dummy,logreg", "-p", "logreg.C=x", "-o", tmp_path / "a"]
    assert call("compare", cache_path, *options, status=2).stderr.startswith("Error: parameter C of head 'logreg' must")


def test_empty_heads_are_an_error(fails, cache_path, tmp_path):
    assert "must name every head once, got ''" in fails("compare", cache_path, "--heads", "", "-o", tmp_path / "a")


def test_list_of_commands_cuts_no_sentence(call):
    assert "..." not in call("--help").stdout.partition("Commands:")[2]


def test_tuning_prints_the_options_of_the_best_parameters(call, cache_path, tmp_path):
    options = ["--split", "random", "--folds", 2, "--trials", 2, "--space", "C=0.1,1"]
    shown = call("tune", cache_path, "--head", "logreg", "-o", tmp_path / "tuned", *options).stdout
    assert "--heads logreg -p logreg.C=" in shown
    found = json.loads(call("tune", cache_path, "--head", "logreg", "-o", tmp_path, "--json", *options).stdout)
    assert found["best_parameters"]["C"] in (0.1, 1.0)
    assert found["notes"]
    assert all(shown.count(note) == 1 for note in found["notes"])


def test_help_imports_no_slow_package(python):
    code = """
import sys
from embedonce.cli import main
main(["compare", "--help"], standalone_mode=False)
print([name for name in ("tensorflow", "keras", "sklearn", "numpy", "matplotlib", "h5py", "PIL") if name in sys.modules])
"""
    assert python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("head", ["softmax", "logreg", "svm"])
def test_prediction_imports_no_slow_package(python, call, images, cache_path, tmp_path, head):
    model, values = tmp_path / "a.npz", ["-p", "epochs=2"] * (head == "softmax")
    call("train", cache_path, "--head", head, *values, "--split", "random", "-o", model)
    code = """
import sys
from embedonce.cli import main
main(["predict", *sys.argv[1:]], standalone_mode=False)
print([name for name in ("tensorflow", "keras", "sklearn", "skops", "joblib", "matplotlib") if name in sys.modules])
"""
    lines = python(code, model, images / "ash" / "000.jpg").splitlines()
    assert "ash/000.jpg: " in lines[-2]
    assert lines[-1] == "[]"


@pytest.mark.slow
def test_the_demo_runs_offline(call, tmp_path, monkeypatch):
    import embedonce.extract.backbone.resolve as weights

    digits = datasets.load_digits()
    few = digits | {name: digits[name][:200] for name in ("images", "target")}
    monkeypatch.setattr(datasets, "load_digits", lambda: Bunch(**few))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(weights, "_URL", "http://127.0.0.1:9/")  # nothing listens there
    run = call("demo", "-o", tmp_path / "demo")
    assert "Notice: the ImageNet weights are not on this machine" in run.stderr
    results = json.loads((tmp_path / "demo" / "results" / "results.json").read_text())
    assert results["cache"]["images"] == 200
    assert results["cache"]["provenance"]["weights"] == "random:0"
    assert any("random weights" in note for note in results["notes"])
    accuracy = {entry["head"]: entry["accuracy"] for entry in results["heads"]}
    assert set(accuracy) == {"softmax", "logreg", "svm"}
    assert accuracy["logreg"] > 0.8


def test_colours_switch_off_with_no_color(tmp_path, monkeypatch):
    command = ["doctor", str(tmp_path / "nowhere"), "--weights", "random:0"]
    assert "\x1b[" in CliRunner().invoke(main, command, color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, command, color=True).output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell):
    words, number = ("embedonce com", "1") if shell != "fish" else ("embedonce com", "com")
    environment = os.environ | {"_EMBEDONCE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": number}
    done = subprocess.run(
        [sys.executable, "-c", "from embedonce.cli.app import main; main(prog_name='embedonce')"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "compare" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["train", "a.h5", "--head", "lo"], ["logreg"]),
        (["tune", "a.h5", "--head", "s"], ["svm", "softmax"]),
        (["compare", "a.h5", "--heads", "logreg,k"], ["logreg,knn"]),
    ],
)
def test_the_shell_completes_names_of_heads(words, offered):
    completion = ShellComplete(main, {}, "embedonce", "_EMBEDONCE_COMPLETE")
    assert [item.value for item in completion.get_completions(words[:-1], words[-1])] == offered


def test_a_comparison_without_figures_imports_little(cache_path, python, tmp_path):
    code = (
        "import sys\n"
        "from embedonce.cli import main\n"
        "main(['compare', *sys.argv[1:], '--heads', 'logreg,svm,softmax', '--figures', 'none'], standalone_mode=False)\n"
        "print(sorted({'matplotlib', 'pandas', 'scipy.stats', 'tensorflow'} & sys.modules.keys()))\n"
        "import pandas, scipy.stats\n"
        "from sklearn.metrics import label_ranking_loss\n"  # with a function of scipy.stats
        "from sklearn.preprocessing import QuantileTransformer\n"  # with an object of it
        "gauss = QuantileTransformer(n_quantiles=2, output_distribution='normal')\n"
        "print(label_ranking_loss([[1, 0]], [[0.2, 0.1]]), gauss.fit_transform([[0.0], [0.5], [1.0]])[1, 0])\n"
    )
    printed = python(code, cache_path, "--split", "random", "-o", tmp_path / "results")
    assert printed.splitlines()[-2:] == ["[]", "0.0 0.0"]


def test_timings_are_printed_and_stored(call, cache_path, tmp_path):
    options = ("--split", "random", "--timings")
    compared = call("compare", cache_path, "--heads", "knn", *options, "-o", tmp_path / "run").stdout
    rows = dict(re.findall(r"^(\w[\w ]+?)  +(\d+\.\d\d)$", compared, re.M))
    assert {"start", "training knn", "total"} <= rows.keys()
    assert sum(map(float, rows.values())) == pytest.approx(2 * float(rows["total"]), abs=0.1)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())["phase_seconds"]
    assert {"groups and splits", "training knn", "figures", "report"} <= stored.keys()
    trained = call("train", cache_path, "--head", "knn", *options, "-o", tmp_path / "a.npz", "--json")
    assert json.loads(trained.stdout)["scores"]["accuracy"] > 0.5
    assert "training knn" in trained.stderr
