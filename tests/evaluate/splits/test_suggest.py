"""Proposals of groups from names, folders, metadata and EXIF data."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import FeatureCache, extract_features, suggest_groups
from embedonce.cli import main
from embedonce.evaluate.splits.similarity import similarity_in_groups
from PIL import Image


def cache_of_paths(paths, group_of=lambda path: path, **options):
    """Return a cache whose classes are the first folders, with features alike where ``group_of`` is equal."""
    generator = np.random.default_rng(0)
    centres = {key: generator.normal(size=12) for key in dict.fromkeys(map(group_of, paths))}
    features = [centres[group_of(path)] + generator.normal(size=12) for path in paths]
    return FeatureCache.from_arrays(features, [path.split("/")[0] for path in paths], paths=paths, **options)


def groups_of(suggestion):
    groups = {}
    for path, name in zip(suggestion.groups.paths, suggestion.groups.names, strict=True):
        groups.setdefault(name, []).append(path)
    return sorted(groups.values())


@pytest.mark.parametrize(
    ("names", "beginning"),
    [
        ([f"patient_{n:03}_slice_{i:02}" for n in range(9) for i in range(4)], 11),
        ([f"IM-{n:04}-{i:04}" for n in range(9) for i in range(3)], 7),
        ([f"{n:08}_{i:03}" for n in range(9) for i in range(3)], 8),
        ([f"{who}-{i}" for who in ("adam", "bert", "cora", "dora") for i in range(6)], 4),
        ([f"202001{n:02}_{i:06}" for n in range(9) for i in range(0, 99, 17)], 8),
        ([f"pic_{n:02}_jpg.rf.{(n * 9 + i) * 7919**3:x}a1b2c3" for n in range(9) for i in range(3)], 6),
    ],
    ids=["patients", "studies", "numbers", "words", "days", "hashes of augmentations"],
)
def test_repeated_beginnings_of_names_are_groups(names, beginning):
    paths = sorted(f"{label}/{label}{name}.png" for label in "ab" for name in names)
    first = suggest_groups(cache_of_paths(paths, lambda path: path[: beginning + 3]))[0]
    assert first.above_chance
    assert groups_of(first) == groups_of_key(paths, lambda path: path[: beginning + 3])


def groups_of_key(paths, key):
    groups = {}
    for path in paths:
        groups.setdefault(key(path), []).append(path)
    return sorted(groups.values())


def test_names_of_several_forms_are_grouped_together():
    paths = [f"ill/person{n}_{kind}_{n * 9 + i}.jpg" for n in range(9) for kind in ("virus", "other") for i in range(2)]
    paths += [f"well/{kind}-{n:04}-{i:04}.jpg" for kind in ("IM", "NORMAL2-IM") for n in range(9) for i in range(2)]

    def patient(path):
        return path.split("_")[0] if "person" in path else path.rpartition("-")[0]

    paths = sorted(paths)
    suggestions = suggest_groups(cache_of_paths(paths, patient))
    assert groups_of_key(paths, patient) in [groups_of(one) for one in suggestions]
    assert all(one.above_chance for one in suggestions)


def test_a_number_after_a_word_is_a_group_wherever_it_is():
    paths = sorted(f"{label}/2019{n:02}_cam{n % 3}_{n:04}.jpg" for label in "ab" for n in range(24))
    suggestions = suggest_groups(cache_of_paths(paths, lambda path: path.split("_")[1]))
    (first,) = (one for one in suggestions if one.pattern == "the number after 'cam' in names")
    assert first.across.above_chance
    assert len(first.groups) == 3


def test_case_folders_below_classes_are_groups():
    paths = sorted(f"train/{label}/case_{n}/{i}.png" for label in ("cat", "dog") for n in range(8) for i in range(4))
    cache = cache_of_paths([path.removeprefix("train/") for path in paths], lambda path: path.rpartition("/")[0])
    cache = FeatureCache.from_arrays(cache[:], cache.label_names, paths=paths)
    first, second = suggest_groups(cache)[:2]
    assert first.pattern == "folders case_#, in each class"
    assert len(first.groups) == 16
    assert first.groups.names[0] == "cat/case_0"
    assert len(second.groups) == 8
    assert not second.across.above_chance


@pytest.mark.parametrize(
    "names",
    [
        [f"{label}/{label}.{n}.jpg" for label in ("cat", "dog") for n in range(60)],
        [f"{label}/{n:04}.jpg" for label in ("cat", "dog") for n in range(60)],
        [f"{label}/{np.base_repr(n * 7**9 + 16**7, 16).lower()}.jpg" for label in ("cat", "dog") for n in range(60)],
        ["cat/a.jpg", "dog/b.jpg"],
        [f"{label}/{label}_photo_{n}.jpg" for label in ("cat", "dog") for n in range(60)],
    ],
    ids=["numbers with classes", "numbers", "hashes", "two images", "class names"],
)
def test_unique_names_and_classes_are_not_groups(names):
    assert not suggest_groups(cache_of_paths(sorted(names)))


def test_equal_numbers_are_groups_only_if_the_images_are_alike():
    paths = sorted(f"{label}/{n}.jpg" for label in ("with", "without") for n in range(60))
    assert not suggest_groups(cache_of_paths(paths))
    (pairs,) = suggest_groups(cache_of_paths(paths, lambda path: path.split("/")[1]))
    assert (len(pairs.groups), pairs.sizes.max(), pairs.within) == (60, 2, None)


def test_columns_of_metadata_are_candidates():
    paths = [f"{'ab'[n % 2]}/{n:03}.png" for n in range(60)]
    columns = {
        "patient": [f"P{n // 5}" for n in range(60)],
        "part": ["train", "val", "test"] * 20,
        "class": ["ab"[n % 2] for n in range(60)],
        "id": [str(n) for n in range(60)],
        "site": ["x"] * 60,
    }
    suggestions = suggest_groups(cache_of_paths(paths, lambda path: int(path[2:5]) // 5, metadata=columns))
    assert [one.column for one in suggestions] == ["patient"]
    frame = suggestions.to_dict()[0]
    assert (frame["groups"], frame["largest"], frame["above_chance"]) == (12, 5, True)


def test_exif_data_are_candidates(tmp_path):
    paths = [f"{'ab'[n % 2]}/{n:03}.jpg" for n in range(24)]
    for number, path in enumerate(paths):
        exif = Image.Exif()
        exif[0x0110] = "Model 5"
        exif.get_ifd(0x8769)[0xA431] = f"S{number // 8}"
        exif.get_ifd(0x8769)[0x9003] = f"2020:01:{1 + number // 4:02} 10:00:00"
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / path, exif=exif)
    (tmp_path / paths[0]).write_bytes(b"no image")
    cache = cache_of_paths(paths, lambda path: int(path[2:5]) // 8)
    by_pattern = {one.pattern: one for one in suggest_groups(cache, images=tmp_path)}
    assert set(by_pattern) == {"the serial number of the camera (EXIF)", "the day of the photograph (EXIF)"}
    serial = by_pattern["the serial number of the camera (EXIF)"]
    assert serial.above_chance
    assert serial.groups.names[:2] == [paths[0], "S0"]


def test_similarity_is_the_mean_cosine_of_pairs():
    generator = np.random.default_rng(1)
    features = generator.normal(size=(7, 3)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels, ids = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 0, 1, 2])
    within, across = similarity_in_groups(features, labels, ids)
    cosines = features @ features.T
    assert within.value == pytest.approx((cosines[0, 1] + cosines[0, 2] + cosines[1, 2]) / 3, abs=1e-6)
    expected = (4 * cosines[[0, 1, 2], 4].mean() + 2 * cosines[3, 5]) / 6
    assert across.value == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def patients(tmp_path_factory, draw, small):
    """A cache of three images of each of six persons."""
    folder = tmp_path_factory.mktemp("patients")
    for number in range(6):
        for view in "xyz":
            path = folder / "images" / "ab"[number % 2] / f"person{number}_{view}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(number % 2, number, 70, 90 + ord(view)).save(path)
    extract_features(folder / "images", folder / "patients.h5", **small)
    return folder / "patients.h5"


def run(*words):
    return CliRunner().invoke(main, ["groups", *map(str, words)])


def test_the_command_lists_proposals_and_writes_one(patients, tmp_path):
    listed = run(patients, "--suggest")
    assert listed.exit_code == 0, listed.output
    assert listed.output.startswith("1. file names that begin with person#\n   6 groups of up to 3 images")
    assert f"embedonce groups {patients} --suggest 1 -o groups.csv" in listed.output
    assert json.loads(run(patients, "--suggest", "--json").output)[0]["groups"] == 6
    written = run(patients, "--suggest", "1", "-o", tmp_path / "groups.csv")
    assert written.exit_code == 0, written.output
    with (tmp_path / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"path": "a/person0_x.png", "group": "person0"}
    assert len({row["group"] for row in rows}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suggest", "9"], "--suggest must be the number of one of the 1 proposals, got 9"),
        (["--suggest", "-o", "x.csv"], "-o needs the number of a proposal"),
        (["--suggest", "--report", "x"], "--within-class and --report are for near-duplicates"),
        ([], "Missing option '-o' / '--output'"),
    ],
)
def test_options_of_proposals_are_checked(patients, options, message):
    result = run(patients, *options)
    assert (result.exit_code, message in result.output) == (2, True), result.output


def test_a_cache_after_suggest_is_named(patients):
    result = run("--suggest", patients)
    assert result.exit_code == 2
    assert "Write CACHE before --suggest" in result.output
