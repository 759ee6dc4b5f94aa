"""Tables as spreadsheets, pandas and R write them are read right, or refused with the file and the line."""

from __future__ import annotations

import csv
import unicodedata

import pytest
from embedonce.cache import as_csv, read_table
from embedonce.errors import SplitError
from embedonce.evaluate.splits.groups import read_groups
from embedonce.evaluate.splits.plan import make_splits
from hypothesis import given
from hypothesis import strategies as st
from split_caches import cache_of

NAMES = ["a/1.png", "a/caf\u00e9 2.png", "b/3.png", "b/4, 5.png"]
TABLE = 'path,group,part\na/1.png,p,train\na/caf\u00e9 2.png,M\u00fcller,test\nb/3.png,p,train\n"b/4, 5.png",q,test\n'


@pytest.fixture
def cache():
    return cache_of({name: name[0] for name in NAMES})


@pytest.fixture
def put(tmp_path):
    def write(content):
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        (tmp_path / "x.csv").write_bytes(data)
        return tmp_path / "x.csv"

    return write


def unquoted(separator):
    return TABLE.replace('"', "").replace(", ", "\0").replace(",", separator).replace("\0", ", ")


KINDS = {
    "UTF-8": TABLE,
    "byte order mark": TABLE.encode("utf-8-sig"),
    "UTF-16": TABLE.encode("utf-16"),
    "UTF-16 big-endian": b"\xfe\xff" + TABLE.encode("utf-16-be"),
    "UTF-16 without mark": TABLE.encode("utf-16-le"),
    "Windows-1252": TABLE.encode("cp1252"),
    "semicolons": unquoted(";"),
    "tabs": unquoted("\t"),
    "tabs in UTF-16": unquoted("\t").encode("utf-16"),
    "separator named": "sep=;\r\n" + unquoted(";"),
    "Windows line ends": TABLE.replace("\n", "\r\n"),
    "old Macintosh line ends": TABLE.replace("\n", "\r"),
    "backslashes": TABLE.replace("/", "\\"),
    "leading dot": TABLE.replace("\na/", "\n./a/"),
    "spaces": TABLE.replace("png,", "png ,").replace("train", "train ").replace("path,group,", "path, group , "),
    "other case": TABLE.replace("path,group,part", "Path,GROUP,Part").replace("train", "Train").replace("test", "TEST"),
    "decomposed": unicodedata.normalize("NFD", TABLE),
    "all quoted": '"'
    + TABLE.replace('"', "").replace(", ", "\0").replace(",", '","').replace("\0", ", ").rstrip().replace("\n", '"\n"')
    + '"',
    "empty rows": TABLE.replace("\n", "\n,,\n") + "\n\n",
    "index of pandas": "".join(f"{number},{line}\n" for number, line in enumerate(TABLE.splitlines())).replace(
        "0,", ",", 1
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_every_kind_are_read(cache, put, kind):
    path = put(KINDS[kind])
    assert read_groups(path, cache).ids.tolist()[::2] == [read_groups(path, cache).ids[0]] * 2
    assert len(read_groups(path, cache)) == 3
    for split in (str(path), f"{path}:part", f"{path}:PART"):
        (plan,) = make_splits(cache, split, 0)
        assert (plan.train.tolist(), plan.test.tolist()) == ([0, 2], [1, 3])


def test_names_of_files_that_are_not_utf8_keep_their_bytes(put):
    cache = cache_of({"a/caf\udce9.png": "a", "b/1.png": "b"})
    path = put("path,group\na/caf\udce9.png,p\nb/1.png,q\n")
    assert read_groups(path, cache).names == ["p", "q"]


def test_a_file_name_in_another_encoding_is_enough(cache, put):
    table = 'path,group\n1,p\ncaf\u00e9 2,q\n3,r\n"4, 5",s\n'
    assert read_groups(put(table.encode("cp1252")), cache).names == ["p", "q", "r", "s"]


def folds_of(values):
    return "path,part\n" + "".join(f'"{name}",{value}\n' for name, value in zip(NAMES, values, strict=True))


@pytest.mark.parametrize("values", [("1", "2", "2", "1"), ("1.0", "2", "2.0", "1"), ("1.0", "2.0", "2.0", "1.")])
def test_fold_numbers_are_read_from_the_column_part(cache, put, values):
    path = put(folds_of(values))
    for split in (path, f"{path}:part"):
        assert [fold.test.tolist() for fold in make_splits(cache, split, 0)] == [[0, 3], [1, 2]]


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "<NA>", "None", "NULL"])
def test_missing_values_are_not_a_fold(cache, put, missing):
    path = put(folds_of(("1.0", "2.0", missing, "10.0")))
    assert [fold.test.tolist() for fold in make_splits(cache, f"{path}:part", 0)] == [[0], [1], [3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,group\na/1.png,nan\n", r"x\.csv, line 2: group must not be empty, got 'nan'"),
        (
            "path,group\na/1.png,3\nb/3.png,3.0\n",
            r"line 3: names of groups must differ by more than spaces or \.0, got '3'",
        ),
        ("path,group\na\\1.png,p\na/1.png,q\n", r"line 3: a/1\.png must be in one group, got 'p' and 'q'"),
        ("path,group\nb/4, 5.png,q\n", r"line 2: a row must have at most the 2 fields .*, got 3\. Put quotes .* ','"),
        ("path,path,group\na,b,c\n", "must have one column path, got 2"),
        ("Path,path,PATH,Group,GROUP\na,b,c,d,e\n", "must have one column group, got 2"),
        (b"PK\x03\x04\x14\0", r"cannot read the groups file .*x\.csv: it is a workbook .* Save it as CSV \(UTF-8\)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "it is a workbook of a spreadsheet"),
        (b"path,group\na/1.png,p\0\n", "it is not a text file"),
        (b"\xff\xfep\0a", "cannot read the groups file"),
    ],
)
def test_other_tables_are_refused_with_the_line(cache, put, text, message):
    with pytest.raises(SplitError, match=message):
        read_groups(put(text), cache)


def test_a_path_that_is_named_in_two_ways_is_refused(cache, put):
    path = put("path,part\na/1.png,train\na\\1.png,train\n")
    with pytest.raises(SplitError, match=r"x\.csv, line 3: a/1\.png is named twice"):
        make_splits(cache, path, 0)


FORMULAS = ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "'=a", "''-a", "'a", "-1", "+2.5", "a=b", '=HYPERLINK("x",1)']


def test_no_text_is_a_formula_and_all_are_read_back(put):
    path = put(as_csv(["path", "=part"], [[text, text] for text in FORMULAS]))
    with path.open(newline="") as file:
        for cells in csv.reader(file):
            for cell in cells:
                assert cell[:1] not in ("=", "@", "\t", "\r")
                assert cell[:1] not in ("+", "-") or float(cell)
    assert [list(row.values()) for _, row in read_table(path, "file", ["path", "=part"])] == [[a, a] for a in FORMULAS]


@given(text=st.text(st.sampled_from("=+-@'\t\r\n,1a"), min_size=1))
def test_any_text_is_read_back(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(as_csv(["path", "part"], [[text, "x"]]))
    assert [row["path"] for _, row in read_table(path, "file", ["path", "part"])] == [text]
