"""A model card says what a run knows, with places in results.json that exist, and asks for the rest."""

from __future__ import annotations

import json
import re

import embedonce as eo
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli import main
from embedonce.errors import HeadError, OutputError, ParameterError
from embedonce.evaluate.report import write_questions
from embedonce.evaluate.report.model_card import _anchor, _contents
from saving import without_pictures

CLASSES = ["ash", "birch|`*<b>"]


def made(seed=0, classes=CLASSES, n=120, **others):
    labels = np.array(classes)[np.arange(n) % len(classes)]
    X = np.random.default_rng(seed).normal(size=(n, 8))
    X[:, 0] += 2 * (np.arange(n) % len(classes))
    return eo.FeatureCache.from_arrays(X, labels, **others)


def saved(folder, cache, heads=("logreg", "knn"), split="random", **options):
    with without_pictures():
        eo.compare(cache, heads, split=split, **options).save(folder, figures="none")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    sites = np.repeat(["north", "south"], 60)
    return saved(
        tmp_path_factory.mktemp("run"),
        made(metadata={"site": sites}),
        {"logreg": {}, "linear": {"head": "linear-svm"}, "knn": {}},
        external=[made(1)],
        by="@site",
        groups=[f"g{row // 2}" for row in range(120)],
    )


def found_in(results, place):
    for name, number in re.findall(r"([a-z_0-9]+)|\[(\d*)\]", place):
        results = results[name] if name else results[int(number or 0)]
    return results


def places_in(text):
    cited = re.findall(r"\((`[^)]*`)\)", text) + re.findall(r"`(best\.expected)`|From `(notes)`", text)
    found = {place for one in cited for place in (re.findall(r"`([^`]+)`", one) if isinstance(one, str) else one)}
    return {place for place in found if place and " " not in place}


def test_every_place_in_results_json_exists(run):
    card = eo.card(run)
    results = json.loads((run / "results.json").read_text())
    places = places_in(card.text)
    assert len(places) > 30
    for place in places:
        found_in(results, place)
    score = results["heads"][[one["head"] for one in results["heads"]].index(card.head)]["accuracy"]
    assert f"reaches {100 * score:.1f} % accuracy" in card.text
    assert f"`{results['split']['image_digest']}`" in card.text
    assert "Images from elsewhere" in card.text
    assert "| site | north |" in card.text
    assert "Not for diagnosis" in card.text


def test_cross_validation_tuning_and_calibration_are_described(tmp_path):
    saved(tmp_path, made(), ["knn"], folds=2, repeats=2, tune=0.2, calibrate="temperature")
    card = eo.card(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    for place in places_in(card.text):
        found_in(results, place)
    for text in (
        "in 2 folds, repeated 2 times",
        "were searched in the training images of each of 4 folds",
        "temperature",
    ):
        assert text in card.text, text


def test_seeds_of_the_head_are_part_of_robustness(tmp_path):
    text = eo.card(saved(tmp_path, made(), {"softmax": {"epochs": 1}}, head_seeds=2)).text
    assert re.search(r"With 2 seeds of the head alone: [\d. %]+ to [\d. %]+ \(`head_seeds\[0\]`\)", text)


def test_the_audit_of_shortcuts_is_described(run, tmp_path):
    results = json.loads((run / "results.json").read_text())
    family = {"family": "file size", "metric": "accuracy", "score": 0.9}
    results["shortcuts"] = {"families": [family], "best": 0.8, "majority": 0.5, "sentence": "file size alone tells"}
    results["files"] = []
    (tmp_path / "results.json").write_text(json.dumps(results))
    card = eo.card(tmp_path)
    assert "at most 90.0 % accuracy (file size), the best head 80.0 %" in card.text
    assert "file size alone tells." in card.text
    assert "data.legitimate" in {question.key for question in card.questions}


def test_an_evaluation_has_a_card_too(tmp_path):
    cache = made()
    eo.train(cache, "knn", tmp_path / "a.npz", split="random")
    with without_pictures():
        eo.evaluate_model(tmp_path / "a.npz", cache).save(tmp_path / "run", figures="none")
    assert "on which a trained model was scored" in eo.card(tmp_path / "run").text


def test_metrics_of_the_user_are_in_the_table(tmp_path):
    def half(true, predicted):
        return float(np.mean(true == predicted)) / 2

    card = eo.card(saved(tmp_path, made(), ["knn"], metrics=half))
    assert re.search(r"\| Matthews correlation \| half \| place \|", card.text)


def test_results_of_an_earlier_version_have_a_card(run, tmp_path):
    results = json.loads((run / "results.json").read_text())
    for key in ("earlier_runs", "phase_seconds", "best", "external", "subgroups", "files"):
        results.pop(key, None)
    del results["split"]["image_digest"], results["split"]["test_digest"]
    for head in results["heads"]:
        for entry in head["per_class"]:
            del entry["intervals"], entry["specificity"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    card = eo.card(tmp_path)
    assert next(item.status for item in card.items if (item.checklist, item.item) == ("CLAIM", "33")) == "open"


def test_the_features_are_those_of_the_cache_of_the_head(tmp_path):
    about = {"architecture": "MobileNetV2", "weights_sha256": "w", "alpha": 1.0}
    paths = [f"{row}.png" for row in range(120)]
    small, large = (made(seed, paths=paths, fingerprint=about | {"image_size": 96 << seed}) for seed in (0, 1))
    saved(tmp_path, [small, large], ["knn"])
    results = json.loads((tmp_path / "results.json").read_text())
    for number, size in enumerate((96, 192)):
        (place,) = [f"caches[{row}]" for row, one in enumerate(results["caches"]) if one["name"] == f"{size} px"]
        text = eo.card(tmp_path, study={"model": {"head": f"knn on {size} px"}}).text
        assert f"(alpha 1.0, {size} x {size} pixels) (`{place}.fingerprint`)" in text
        assert f"reaches {100 * results['heads'][number]['accuracy']:.1f} %" in text


def test_many_classes_are_shortened(tmp_path):
    cache = made(classes=[f"class{number:02d}" for number in range(30)], n=300)
    card = eo.card(saved(tmp_path, cache, ["knn"]))
    assert "and 20 more" in card.text
    assert "The 10 largest of 30 classes" in card.text
    assert "The 10 classes of 30 with the lowest F1" in card.text


def test_the_lists_are_complete_and_all_topics_exist():
    topics, checklists = _contents()
    keys = [topic.key for topic in topics]
    assert [len(one.items) for one in checklists] == [32, 44, 52]
    assert len({re.match(r"\d+", number)[0] for number, *_ in checklists[2].items}) == 27
    for checklist in checklists:
        assert len({number for number, *_ in checklist.items}) == len(checklist.items)
        assert {key for *_, used in checklist.items for key in used} <= set(keys)
    used = {key for checklist in checklists for *_, listed in checklist.items for key in listed}
    assert {key for key in set(keys) - used if not key.startswith("model.")} == set()
    assert len({_anchor(topic.title) for topic in topics}) == len(topics)


def test_links_lead_to_headings(run):
    text = eo.card(run).text
    anchors = {_anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert len(links) > 20
    assert links <= anchors


def test_names_of_classes_break_no_table(run):
    lines = eo.card(run).text.splitlines()
    (row,) = [line for line in lines if line.startswith("| birch") and line.endswith("|") and line.count("60") == 1]
    assert row.startswith(r"| birch\|\`\*\<b\> | 60 |")
    assert not any("<b>" in line.replace(r"\<b\>", "") for line in lines)


def test_answers_close_items_and_are_written(run, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        '[study]\npopulation = """\nAdults.\n\nAll."""\nfunding = "  "\n[model]\nname = "Trees"\nhead = "knn"\n'
    )
    before, after = eo.card(run), eo.card(run, study=path)
    assert after.head == "knn"
    assert "\n# Model card: Trees\n" in after.text
    assert "### Population\n\nAdults.\n\nAll." in after.text
    status = {(item.checklist, item.item): item.status for item in after.items}
    assert status["REFORMS", "1a"] == "answered"
    assert status["TRIPOD+AI", "3b"] == "partly"
    assert status["TRIPOD+AI", "18a"] == "open"
    assert after.counts["REFORMS"]["answered"] == before.counts["REFORMS"]["answered"] + 1
    assert {one.key for one in before.questions} - {one.key for one in after.questions} == {
        "study.population",
        "model.name",
    }
    assert after.questions == eo.card(run, study={"study": {"population": "x"}, "model": {"name": "y"}}).questions


def test_what_the_run_knows_does_not_always_suffice(run):
    answered = eo.card(run, study={"training": {"disjoint": "Groups are trees."}})
    for card, status in ((eo.card(run), "partly"), (answered, "answered")):
        assert [item.status for item in card.items if item.topics == ["training.disjoint"]] == [status] * 2
    assert "groups of images that belong together" in answered.text
    assert "Groups are trees." in answered.text


def test_a_template_has_all_questions_and_changes_nothing(run, tmp_path):
    path = write_questions(tmp_path / "study.toml")
    assert eo.card(run, study=path).counts == eo.card(run).counts
    text = path.read_text()
    for question in eo.card(run).questions:
        assert f"\n{question.key.partition('.')[2]} = " in text
    assert "# (REFORMS 1a; TRIPOD+AI 3b)" in text
    with pytest.raises(OutputError, match="exists and is not replaced"):
        write_questions(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[study]\nfundin = "x"',
            r"keys of \[study\] in line 2 of the study file .*, got 'fundin'. Did you mean funding",
        ),
        ('[studi]\naims = "x"', r"tables in line 1 of the study file .*, got 'studi'. Did you mean study"),
        ("[data]\n\nsource = 3", "data.source in line 3 of the study file .* must be a text in quotes, got 3"),
        ('study = "x"', r"study of the study file .* must be a table, \[study\]"),
        ("[study", "study.toml is not TOML"),
        ('[data]\nparameters = "x"', "keys of .data. .*, got 'parameters'"),
    ],
)
def test_a_faulty_study_file_is_one_error(run, tmp_path, text, message):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message) as caught:
        eo.card(run, study=path)
    assert "\n" not in str(caught.value)


def test_other_files_and_heads_are_errors(run, tmp_path):
    with pytest.raises(HeadError, match=r"model.head of the study file must be one of .*logreg.*, got svm"):
        eo.card(run, study={"model": {"head": "svm"}})
    with pytest.raises(ParameterError, match="parameter study of card must be a TOML file, got .*, which is a folder"):
        eo.card(run, study=run)
    with pytest.raises(ParameterError, match="cannot read the study file .*: No such file"):
        eo.card(run, study=tmp_path / "none.toml")
    with pytest.raises(ParameterError, match="keys of .study. of parameter study of card must be"):
        eo.card(run, study={"study": {"fundin": "x"}})
    with pytest.raises(ParameterError, match="must be a folder that embedonce compare wrote"):
        eo.card(tmp_path)
    with pytest.raises(ParameterError, match="parameter run of card must be a path, got 5"):
        eo.card(5)
    with pytest.raises(ParameterError, match="parameter study of card must be a path, got 5"):
        eo.card(run, study=5)


def test_the_command_writes_questions_once(run, tmp_path):
    study, output = tmp_path / "study.toml", tmp_path / "card.md"
    command = ["card", str(run), "--study", str(study), "-o", str(output)]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0, first.output
    assert "with the questions to the authors" in first.stderr
    assert re.search(r"REFORMS: \d+ of 32 items answered, \d+ partly, \d+ open\.", first.stdout)
    study.write_text(study.read_text().replace('population = ""', 'population = "Trees"'))
    second = CliRunner().invoke(main, command)
    assert second.stderr == ""
    assert "### Population\n\nTrees" in output.read_text()
    shown = CliRunner().invoke(main, ["card", str(run)])
    assert shown.stdout.startswith("---\nlibrary_name: embedonce\n")
    about = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert about["counts"]["CLAIM"].keys() == {"answered", "partly", "open"}
    refused = CliRunner().invoke(main, ["card", str(run), "--study", str(study), "-o", str(study)])
    assert refused.exit_code != 0
    assert "Trees" in study.read_text()
