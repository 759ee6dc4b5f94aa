"""Several caches of the same images in one comparison."""

from __future__ import annotations

import json
import shutil

import embedonce as eo
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli import main
from embedonce.errors import CacheError, ParameterError, SplitError
from embedonce.evaluate.comparison import Grid, open_caches, run_grid
from embedonce.evaluate.report import next_command
from embedonce.evaluate.report.figures import cost_figure, costs_of_caches
from embedonce.evaluate.scoring import cache_sentences, cache_table, fit_many
from embedonce.extract import Progress
from saving import with_empty_pictures, without_pictures

N = 120
LABELS = ["ash", "birch"] * (N // 2)
PATHS = [f"{label}/{row:03d}.png" for row, label in enumerate(LABELS)]


def made(strength, seed=0, rows=None, labels=LABELS, **fingerprint):
    """A cache in memory whose first feature tells the classes apart as much as ``strength`` says."""
    X = np.random.default_rng(seed).normal(size=(N, 6))
    X[:, 0] += strength * (np.array(LABELS) == "birch")
    rows = np.arange(N) if rows is None else np.asarray(rows)
    paths, labels = [PATHS[row] for row in rows], [labels[row] for row in rows]
    about = {"architecture": "MobileNetV2", "weights_sha256": "w"} | fingerprint if fingerprint else None
    return eo.FeatureCache.from_arrays(X[rows], labels, paths=paths, fingerprint=about)


WEAK = made(0.3, alpha=0.35, image_size=96)
STRONG = made(5, 1, alpha=0.35, image_size=224)


def compared(caches, heads=("logreg", "knn"), **options):
    return eo.compare(caches, heads, **{"split": "random"} | options)


@pytest.fixture(scope="module")
def both():
    return compared([WEAK, STRONG])


def test_every_head_is_scored_on_every_cache(both):
    names = ["logreg on 96 px", "knn on 96 px", "logreg on 224 px", "knn on 224 px"]
    assert [result.name for result in both.results] == names
    assert both.table[0].scores["accuracy"] > 0.9 > both.result("knn on 96 px").scores["accuracy"]
    for cache, name in ((WEAK, "96 px"), (STRONG, "224 px")):
        alone = eo.compare(cache, ["logreg"], split=both.split)
        assert np.array_equal(alone.results[0].predicted, both.result(f"logreg on {name}").predicted)


def test_pairs_of_all_results_are_tested(both):
    assert len(both.differences) == 6
    (row,) = [row for row in both.differences if {row.a, row.b} == {"logreg on 96 px", "logreg on 224 px"}]
    assert row.a == "logreg on 224 px"
    assert row.verdict == "better"


def test_the_better_cache_brings_points_and_costs_more(both):
    (sentence,) = cache_sentences(both)
    assert "224 px" in sentence
    assert " points of accuracy over 96 px" in sentence
    assert sentence.endswith("and costs 5.4 times the multiply-accumulates.")
    assert [row[0] for row in cache_table(both).rows] == ["224 px", "96 px"]
    assert [one.multiply_accumulates for one in both.caches] == [58_005_808, 10_654_128]
    assert both.caches[0].feature_bytes == 4 * 6 * N
    assert "2 points" not in json.dumps(both.to_dict()["caches"])
    assert [one["name"] for one in both.to_dict()["caches"]] == ["224 px", "96 px"]


def test_equally_good_caches_differ_in_cost_alone():
    # the same features, in another order
    other = eo.FeatureCache.from_arrays(
        STRONG.features[:, ::-1], LABELS, paths=PATHS, fingerprint=STRONG.fingerprint | {"alpha": 1.0}
    )
    (sentence,) = cache_sentences(compared([STRONG, other], ["knn"]))
    start = "With knn, alpha 1.0 and alpha 0.35 are practically tied (+0.0 points of accuracy"
    assert sentence.startswith(start) or "no significant difference between alpha 1.0 and alpha 0.35" in sentence
    assert sentence.endswith("alpha 1.0 costs 5.2 times the multiply-accumulates.")


def test_images_that_a_cache_lacks_are_left_out():
    rows = [row for row in range(N) if row % 10 != 3][::-1]
    comparison = compared([WEAK, made(5, 1, rows, alpha=0.35, image_size=224)])
    assert len(comparison.cache) == len(rows)
    (note,) = [note for note in comparison.notes if "not in every cache" in note]
    assert note == "12 images are not in every cache and are left out of the cache in memory, such as birch/003.png"
    # the rows of the other cache are in another order, and still those of the same images
    assert comparison.result("knn on 224 px").scores["accuracy"] > 0.9
    turned = compared([made(5, 1, rows, alpha=0.35, image_size=224), WEAK])
    assert len(turned.cache) == len(rows)
    assert turned.cache.paths == comparison.cache.paths[::-1]
    with pytest.raises(SplitError, match="must be random, grouped, a file, .* got tuple of row numbers"):
        compared([WEAK, made(5, 1, rows)], split=(np.arange(50), np.arange(50, 90)))


def test_subgroups_are_those_of_the_first_cache():
    sites = ["north", "south", "south"] * (N // 3)
    first = eo.FeatureCache.from_arrays(WEAK.features, LABELS, paths=PATHS, metadata={"site": sites})
    rows = [row for row in range(N) if row % 10 != 3]
    comparison = compared([first, made(5, 1, rows)], ["knn"], by="@site")
    assert {(row.value, row.head) for row in comparison.subgroups} == {
        (site, f"knn on cache {number}") for site in ("north", "south") for number in (1, 2)
    }
    test = [sites[rows[row]] for row in comparison.split.test]
    assert {row.images for row in comparison.subgroups if row.value == "north"} == {test.count("north")}


def test_groups_of_the_first_cache_count_for_all():
    rows = [row for row in range(N) if row % 10 != 3]
    groups = [f"g{row // 4}" for row in range(N)]
    comparison = compared([WEAK, made(5, 1, rows)], split="grouped", groups=groups)
    assert list(comparison.groups.names) == [groups[row] for row in rows]
    assert comparison.split.groups["crossing"] == 0


def test_features_are_joined():
    joined = compared([WEAK, STRONG, (WEAK, STRONG)], ["knn"])
    one = next(one for one in joined.caches if one.name == "96 px + 224 px")
    assert (one.features, one.multiply_accumulates) == (12, 68_659_936)
    both = np.concatenate([WEAK.features, STRONG.features], axis=1)
    alone = eo.compare(eo.FeatureCache.from_arrays(both, LABELS, paths=PATHS), ["knn"], split=joined.split)
    assert np.array_equal(alone.results[0].predicted, joined.result("knn on 96 px + 224 px").predicted)
    single = compared([(WEAK, STRONG)], ["knn"])
    assert next_command(single) == []
    assert [result.name for result in single.results] == ["knn"]
    assert [one.name for one in single.caches] == ["96 px + 224 px"]


@pytest.mark.parametrize(
    ("caches", "options", "message"),
    [
        ([], {}, "must have at least one cache, got none"),
        ([WEAK, WEAK], {}, "must have each cache once"),
        ([WEAK, (STRONG, STRONG)], {}, "must have each cache once"),
        ([WEAK, ()], {}, "must join at least one cache"),
        ([WEAK, STRONG], {"views": "train"}, "parameter views of compare must not be given with several caches"),
        ([WEAK, STRONG], {"external": "@site"}, "parameter external of compare must not be given with several"),
        ([WEAK, 5], {}, "parameter cache of compare must be a FeatureCache or the path"),
    ],
)
def test_caches_that_cannot_be_compared_are_errors(caches, options, message):
    with pytest.raises(ParameterError, match=message):
        compared(caches, **options)


def test_other_differences_of_the_features_are_noted():
    resized = made(5, 1, alpha=0.35, image_size=224, resize="crop")
    other = made(5, 1, alpha=0.35, image_size=96, weights_sha256="v")
    (note,) = open_caches([WEAK, resized]).notes
    assert note == "the features of the caches also differ in resize"
    assert open_caches([STRONG, other]).notes == ("the features of the caches also differ in weights sha256",)
    same = open_caches([STRONG, made(5, 2, alpha=0.35, image_size=224)])
    assert ([one.name for one in same.caches], same.notes) == (["cache 1", "cache 2"], ())
    wider = open_caches([WEAK, made(5, 1, alpha=1.0, image_size=224, weights_sha256="v")])
    assert [one.about for one in wider.caches] == ["alpha 0.35, 96 px", "alpha 1.0, 224 px"]
    assert wider.notes == ()


def test_caches_of_other_images_are_an_error():
    other = eo.FeatureCache.from_arrays(np.eye(4), ["ash", "birch"] * 2, paths=list("abcd"))
    message = r"the same images, got the cache in memory without an image of the cache in memory\. Features from arrays"
    with pytest.raises(ParameterError, match=message):
        compared([WEAK, other])
    halves = [made(1, rows=range(20)), made(1, rows=range(15, 40)), made(1, rows=range(15))]
    with pytest.raises(ParameterError, match="caches of the same images, got none that all of them have"):
        compared(halves)


def test_caches_with_other_labels_are_an_error():
    labels = ["oak" if row < 4 else label for row, label in enumerate(LABELS)]
    message = r"4 of the 120 shared images have another one .*: ash/000.png \(ash, oak\), .*, … Change"
    with pytest.raises(ParameterError, match=message.replace(", … ", ", ….*")):
        compared([WEAK, made(5, 1, labels=labels)])
    classes = [{"ash": "Esche", "birch": "Birke"}[label] for label in LABELS]
    with pytest.raises(ParameterError, match="120 of the 120 shared images have another one"):
        compared([WEAK, made(5, 1, labels=classes)])


def test_labels_of_the_first_cache_suffice():
    unlabelled = eo.FeatureCache.from_arrays(STRONG.features, paths=PATHS, fingerprint=STRONG.fingerprint)
    assert compared([WEAK, unlabelled], ["knn"]).result("knn on 224 px").scores["accuracy"] > 0.9


def test_options_work_for_every_cache():
    options = {"calibrate": "temperature", "folds": 3, "tune": 2.0, "class_weight": "balanced"}
    comparison = compared([WEAK, STRONG], ["logreg"], learning_curve=True, **options)
    names = {"logreg on 96 px", "logreg on 224 px"}
    assert {point.head for point in comparison.learning_curve} == names
    assert all(len(result.tuning) == 3 and len(result.folds) == 3 for result in comparison.results)
    assert comparison.learning_outlook.head == "logreg on 224 px"
    assert sum("was tuned" in note for note in comparison.notes) == 2


def test_other_seeds_take_the_features_of_the_head():
    from sklearn.ensemble import RandomForestClassifier

    forest = {"forest": RandomForestClassifier(10, random_state=0)}
    comparison = compared([WEAK, STRONG], forest, head_seeds=2)
    scores = {one.head: one.scores for one in comparison.head_seeds}
    assert scores["forest on 96 px"][0] == comparison.result("forest on 96 px").scores["accuracy"]
    assert min(scores["forest on 224 px"]) > 0.9 > max(scores["forest on 96 px"])


def test_comparisons_of_a_grid_share_fits_on_each_cache(tmp_path, monkeypatch):
    fitted = []
    original = fit_many.fit_and_score
    monkeypatch.setattr(fit_many, "fit_and_score", lambda name, *rest: fitted.append(name) or original(name, *rest))
    variants = Grid(("knn", "knn,dummy")).variants({"knn": {}, "dummy": {}}, 0)
    caches = open_caches([WEAK, STRONG])
    first, second = run_grid(caches, variants, tmp_path, progress=Progress(), split="random")
    assert sorted(fitted) == [f"{head} on {size} px" for head in ("dummy", "knn") for size in (224, 96)]
    alone = compared([WEAK, STRONG], ["knn"])
    for results in (first.results, second.results):
        scores = {one["head"]: one["accuracy"] for one in results["heads"]}
        assert all(scores[one.name] == one.scores["accuracy"] for one in alone.results)


def test_heads_in_other_processes_get_their_features():
    rows = list(range(N))[::-1]
    caches = [WEAK, made(5, 1, rows, alpha=0.35, image_size=224), (WEAK, STRONG)]
    one, two = (compared(caches, ["knn"], jobs=jobs) for jobs in (1, 2))
    for first, second in zip(one.results, two.results, strict=True):
        assert np.array_equal(first.predicted, second.predicted)


def test_a_head_that_fails_on_one_cache_stays_on_the_others():
    import sklearn.naive_bayes

    heads = {"bayes": sklearn.naive_bayes.MultinomialNB(), "knn": {}}
    positive = eo.FeatureCache.from_arrays(STRONG.features + 20, LABELS, paths=PATHS)
    comparison = compared([WEAK, positive], heads)
    assert list(comparison.failed) == ["bayes on cache 1"]
    assert [list(one.heads) for one in comparison.caches] == [["bayes", "knn"], ["knn"]]
    assert cache_table(comparison).rows[1][1] == "-"


@pytest.fixture(scope="module")
def smaller(tmp_path_factory, images, small):
    """The images of ``cache_path`` with 48 pixels."""
    path = tmp_path_factory.mktemp("smaller") / "small.h5"
    return eo.extract_features(images, path, **small | {"image_size": 48}).path


@pytest.fixture(scope="module")
def on_disk(cache_path, smaller):
    """Caches of images on disk, whose extraction can be measured, and both together."""
    return eo.compare([cache_path, smaller, f"{cache_path}+{smaller}"], ["logreg", "knn"], split="random")


def test_extraction_is_measured(on_disk):
    seconds = {one.name: one.image_seconds for one in on_disk.caches}
    assert all(value > 0 for value in seconds.values())
    assert seconds["64 px + 48 px"] == pytest.approx(seconds["64 px"] + seconds["48 px"])
    assert {one.engines for one in on_disk.caches} <= {("native",), ("litert",)}
    assert costs_of_caches(on_disk)[0] == "images/s"
    sentences = cache_sentences(on_disk)
    assert len(sentences) == 2
    assert all("times the time of extraction." in text for text in sentences)
    of_best = cache_sentences(on_disk, of_best=True)
    assert of_best == [text for text in sentences if text in of_best]
    assert of_best


def test_features_of_one_cache_at_a_time_are_kept(on_disk, smaller):
    second = on_disk.cache_of("knn on 48 px")
    assert second.path == smaller
    assert second.shards, "its features were not read into this object"
    assert not any(shard.closed for shard in second.shards)


def test_the_best_head_is_saved_with_its_features(on_disk, smaller, tmp_path):
    on_disk.result("knn on 48 px").save_model(tmp_path / "knn.npz")
    assert eo.evaluate_model(tmp_path / "knn.npz", smaller).result.name == "knn"
    words = next_command(on_disk)
    best = on_disk.table[0].name
    if "+" in best:
        assert words == []
    else:
        path = on_disk.cache_of(best).path
        assert words == ["train", str(path), "--head", best.split()[0], "-o", f"{best.split()[0]}.npz"]


def test_page_and_figures_show_caches(on_disk, tmp_path):
    with with_empty_pictures():
        on_disk.save(tmp_path / "run", maps=True)
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<section id="caches">' in page
    assert "Heads on trees.h5, small.h5" in page
    for one in on_disk.caches:
        assert f"<dt>{one.name}</dt><dd>{' + '.join(one.files)}: " in page
    assert (tmp_path / "run" / "cost.svg").exists()
    texts = [text.get_text() for text in cost_figure(on_disk).axes[0].get_legend().get_texts()]
    assert len(texts) == 3
    assert any(text.startswith("64 px + 48 px, ") for text in texts)


def test_missing_images_leave_the_speed_unknown(smaller, cache_path, tmp_path):
    caches = []
    for path in (cache_path, smaller):
        cache = eo.FeatureCache.open(path)
        cache.provenance["image_root"] = str(tmp_path / "gone")
        caches.append(cache)
    comparison = eo.compare(caches, ["dummy"], split="random")
    assert all(one.image_seconds is None for one in comparison.caches)
    assert any("the speed of extraction was not measured for" in note for note in comparison.notes)
    assert costs_of_caches(comparison)[0] == "MMACs"


def test_moved_images_are_found_by_content(images, small, cache_path, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "ash" / "000.jpg").rename(tmp_path / "images" / "ash" / "zzz.jpg")
    shutil.copy(tmp_path / "images" / "birch" / "001.png", tmp_path / "images" / "birch" / "twice.png")
    other = eo.extract_features(tmp_path / "images", tmp_path / "other.h5", **small | {"image_size": 48})
    aligned = open_caches([cache_path, other.path])
    assert not aligned.is_narrowed
    row = aligned.cache.paths.index("ash/000.jpg")
    assert np.array_equal(aligned.open(1)[row], other[other.paths.index("ash/zzz.jpg")])


def test_a_plus_divides_paths_of_existing_caches(cache_path, smaller, tmp_path):
    odd = tmp_path / "c++" / "a+b.h5"
    odd.parent.mkdir()
    shutil.copy(smaller, odd)
    assert open_caches(odd).cache.path == odd
    assert open_caches(f"{odd}+{cache_path}").paths == (odd, cache_path)
    with pytest.raises(CacheError, match=r"cannot open the cache .*missing\.h5:"):
        open_caches(f"{cache_path}+{tmp_path / 'missing.h5'}")


def test_saved_results_know_the_features_of_each_head(both, tmp_path):
    with without_pictures():
        both.save(tmp_path / "run")
    board = eo.leaderboard(tmp_path / "run", where={"image_size": 96})
    assert {row.head for row in board.rows} == {"logreg on 96 px", "knn on 96 px"}
    assert eo.load_results(tmp_path / "run").settings["features: image_size"] == [224, 96]
    assert eo.diff(tmp_path / "run", tmp_path / "run").settings == {}


def run(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_the_command_takes_several_caches(cache_path, smaller, tmp_path):
    options = ["--heads", "knn", "--split", "random", "-o", tmp_path / "run", "--figures", "none"]
    gate = ["--fail-under", "knn on 48 px.accuracy>=0.99"]
    shown = run(cache_path, smaller, *options, *gate)
    assert "cache  best head  accuracy  images/s  MMACs" in shown.stdout
    assert "With knn, " in shown.stdout
    assert "times the time of extraction." in shown.stdout
    assert shown.exit_code == ("Not reached: accuracy must be at least 0.99, knn on 48 px" in shown.stderr)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {one["files"][0] for one in results["caches"]} == {str(cache_path), str(smaller)}
    refused = run(cache_path, smaller, "--views", "train", *options)
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "Missing argument 'CACHE...'" in run("-o", tmp_path / "run").stderr


def test_a_configuration_has_several_caches(cache_path, smaller, tmp_path):
    config = tmp_path / "heads.toml"
    start = f"cache = {json.dumps([str(cache_path), str(smaller)])}\nsplit = 'random'\n"
    config.write_text(f"{start}[heads.knn]\n[grid]\nseed = [1, 2]\n")
    command = ["--config", config, "-o", tmp_path / "grid"]
    assert run(*command).exit_code == 0
    heads = {one["head"] for one in eo.load_results(tmp_path / "grid" / "seed=1").content["heads"]}
    assert heads == {"knn on 64 px", "knn on 48 px"}
    assert run(*command).stdout.count("found") == 2
    config.write_text("cache = 5\n")
    assert "must be a text or a list of texts, got 5" in run(*command).stderr


def test_the_ledger_of_each_cache_has_the_comparison(cache_path, smaller, tmp_path):
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    shutil.copy(cache_path, first)
    shutil.copy(smaller, second)
    eo.compare([first, second], ["dummy"], split="random")
    lines = [path.with_name(f"{path.name}.ledger.jsonl").read_text().splitlines() for path in (first, second)]
    assert [len(one) for one in lines] == [1, 1]
    assert [list(json.loads(one[0])["heads"]) for one in lines] == [["dummy on 64 px", "dummy on 48 px"]] * 2


def test_a_card_describes_the_features_of_its_head(on_disk, tmp_path):
    with without_pictures():
        on_disk.save(tmp_path / "run")
    text = str(eo.card(tmp_path / "run", study={"model": {"head": "knn on 48 px"}}))
    number = [one.name for one in on_disk.caches].index("48 px")
    assert "48 x 48 pixels" in text
    assert f"`caches[{number}].fingerprint`" in text
    assert "random:0" in text
