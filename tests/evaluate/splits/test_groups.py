"""Groups files: patients or slides by path, then by stem."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from embedonce.cache import is_missing
from embedonce.errors import SplitError
from embedonce.evaluate.splits.groups import Groups, as_groups, name_groups, read_group_names, read_groups
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from split_caches import cache_of


@pytest.fixture
def cache():
    return cache_of({"a/1.png": "a", "a/2.jpeg": "a", "b/1.png": "b", "b/3.png": "b"})


@pytest.fixture
def read(cache, tmp_path):
    def read_text(text, of=cache):
        (tmp_path / "groups.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
        return read_groups(tmp_path / "groups.csv", of)

    return read_text


def test_images_are_matched_by_path_and_then_by_stem(read):
    groups = read("group,age,path\np,7,a/1.png\nq,8,elsewhere/2.tif\np,9,b/1.png\nr,9,C:\\slides\\3.svs\n")
    assert groups.names == ["p", "q", "p", "r"]
    assert groups.ids.tolist() == [0, 1, 0, 2]
    assert (len(groups), groups.source, groups.notes) == (3, "file", ())


def test_a_stem_with_dots_is_enough(read):
    cache = cache_of({"a/1.2.840.1.png": "a", "a/1.2.840.2.png": "a", "b/x.jpg": "b", "b/.hidden": "b"})
    groups = read("path,group\n1.2.840.1,p\n1.2.840.2.dcm,q\nx,r\n.hidden,s\n", cache)
    assert groups.names == ["p", "q", "r", "s"]


def test_a_file_of_a_larger_set_is_fine_and_counted(read):
    groups = read("path,group\n" + "".join(f"{name}.png,{name}\n" for name in ("a/1", "2", "b/1", "3", "4", "5")))
    assert groups.names == ["a/1", "2", "b/1", "3"]
    assert groups.notes == ("2 of 6 paths of the groups file are not images of the cache",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be CSV with the columns path,group, got an empty file"),
        ("path;name\na;b\n", "must be CSV with the columns path,group, got path;name"),
        ("path,group\na/1.png,p\nb/3.png,p\n", "no group for 2 of 4 images: a/2.jpeg, b/1.png. Add a row"),
        # the row of a/1.png is not one of b/1.png
        ("path,group\na/1.png,p\na/2.jpeg,q\n3,r\n", "no group for 1 of 4 images: b/1.png"),
        ("path,group\n1,p\n2,q\n3,r\n", "not tell the group of 2 of 4 images.* a/1.png, b/1.png. Write their paths"),
        ("path,group\na/1.png,p\nx/2,q\ny/2,r\nb/1.png,p\n3,p\n", "not tell the group of 1 of 4 images.* a/2.jpeg"),
        ("path,group\na/1.png,p\na/1.png,q\n", "line 3: a/1.png must be in one group, got 'p' and 'q'"),
        ("path,group\na/1.png,\n", "line 2: group must not be empty"),
        ("path,group\na/1.png\n", "line 2: group must not be empty"),
        ("path,group\n,p\n", "line 2: path must not be empty"),
        (
            "path,group\na/1.png,p\na/2.jpeg,p \n",
            "line 3: names of groups must differ by more than spaces or .0, got 'p' and 'p '",
        ),
    ],
)
def test_a_groups_file_that_does_not_fit_is_explained(read, text, message):
    with pytest.raises(SplitError, match=message):
        read(text)


def test_a_file_that_is_not_there_is_explained(cache, tmp_path):
    with pytest.raises(SplitError, match="cannot read the groups file .*none.csv"):
        read_groups(tmp_path / "none.csv", cache)


def test_stems_that_are_ambiguous_in_one_group_only_are_fine(read):
    assert read("path,group\nx/1.png,p\ny/1.png,p\n2,q\n3,r\n").names == ["p", "q", "p", "r"]


NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.just("\udce9"), min_size=1
).filter(lambda name: name.strip())


GROUPS = NAMES.map(str.strip).filter(lambda name: not is_missing(name) and not name.endswith((".", ".0")))


@given(st.dictionaries(NAMES, GROUPS, min_size=2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_groups_are_read_back(tmp_path, table):
    cache = cache_of({path: "ab"[number % 2] for number, path in enumerate(sorted(table))})
    groups = Groups(cache.paths, [table[path] for path in cache.paths], "file")
    groups.save(tmp_path / "groups.csv")
    again = read_groups(tmp_path / "groups.csv", cache)
    assert again == groups
    assert again.digest == groups.digest == hashlib.sha256((tmp_path / "groups.csv").read_bytes()).hexdigest()


def test_every_path_has_one_name():
    with pytest.raises(SplitError, match="one name for each of the 2 paths, got 1"):
        Groups(["a", "b"], ["p"], "file")


def test_found_groups_are_named_by_their_first_path(cache):
    groups = name_groups(cache, np.array([3, 0, 0, 3]), "found")
    assert groups.names == ["a/1.png", "a/2.jpeg", "a/2.jpeg", "a/1.png"]
    with pytest.raises(SplitError, match=r"parameter ids of the groups must have shape \(4,\), got \(3,\)"):
        name_groups(cache, np.zeros(3, int), "found")


def test_found_groups_keep_their_names_when_images_join(cache, tmp_path):
    name_groups(cache, np.array([0, 1, 1, 0]), "found").save(tmp_path / "groups.csv")
    grown = cache_of({"0.png": "a", **dict.fromkeys(cache.paths, "b"), "c.png": "a"})
    previous = read_group_names(tmp_path / "groups.csv")
    again = name_groups(grown, np.array([5, 5, 7, 7, 5, 9]), "found", previous)
    assert again.names == ["a/1.png", "a/1.png", "a/2.jpeg", "a/2.jpeg", "a/1.png", "c.png"]
    # two old groups that are one take the name of the larger; one that falls apart stays one
    assert set(name_groups(grown, np.zeros(6, int), "found", previous).names) == {"a/1.png"}
    assert name_groups(grown, np.arange(6), "found", previous).names[1:5] == [
        "a/1.png",
        "a/2.jpeg",
        "a/2.jpeg",
        "a/1.png",
    ]


class Series:
    """Stands for a Series of pandas."""

    def __init__(self, values, index):
        self.values, self.index = values, index

    def to_numpy(self):
        return np.array(self.values, object)


@pytest.mark.parametrize(
    "given",
    [
        ["p", "q", "p", "r"],
        np.array(["p", "q", "p", "r"]),
        {"b/3.png": "r", "a/1.png": "p", "a/2.jpeg": "q", "b/1.png": "p", "other": "s"},
        Series(["p", "q", "p", "r"], range(4)),
        Series(["r", "p", "p", "q"], ["b/3.png", "b/1.png", "a/1.png", "a/2.jpeg"]),
    ],
    ids=["list", "array", "mapping", "series", "series by path"],
)
def test_groups_may_be_given_in_many_forms(cache, given):
    groups = as_groups(given, cache)
    assert (groups.paths, groups.names, groups.source) == (cache.paths, ["p", "q", "p", "r"], "custom")
    assert as_groups(groups, cache) is groups


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["p", "q"], "one group for each of the 4 images, .* got 2"),
        (7, "one group for each of the 4 images, .* got 7"),
        ({"a/1.png": "p"}, "3 of 4 have none: a/2.jpeg, b/1.png, b/3.png. Give an image"),
        (["p", "", "q", None], "2 of 4 have none: a/2.jpeg, b/3.png"),
        (np.array([1.0, np.nan, 2.0, 3.0]), "1 of 4 have none: a/2.jpeg"),
        (Series(["p", "q", "p", "r"], [3, 2, 1, 0]), "4 of 4 have none"),
        (Groups(["x"], ["p"]), "must be of the 4 images"),
    ],
)
def test_groups_that_do_not_fit_the_cache_are_refused(cache, given, message):
    with pytest.raises(SplitError, match=message):
        as_groups(given, cache)
