from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from embedonce import extract_features
from embedonce.errors import ImageFolderError
from embedonce.extract import Progress
from embedonce.extract.labels import folder_labels
from embedonce.extract.report import notes_on_classes, notes_on_scan
from embedonce.extract.scan import find_images, scan_folder
from PIL import Image


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def classes(folder):
    """Scan class folders."""
    found = scan_folder(folder)
    folder_labels(found)
    return found


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.JPG", "b/1.jpeg", "a/deep/er/3.PnG", "a/x.bmp", "a/y.gif", "a/notes.txt", "c/readme.md"):
        touch(tmp_path / name)
    return tmp_path


def test_images_are_sorted_and_suffixes_are_case_insensitive(folder):
    found = classes(folder)
    assert found.class_names == [b"a", b"b"]
    assert [image.path for image in found.images] == [
        b"a/deep/er/3.PnG",
        b"a/x.bmp",
        b"a/y.gif",
        b"b/1.jpeg",
        b"b/2.JPG",
    ]
    assert found.images[0].size == 1
    assert found.images[0].mtime == (folder / "a/deep/er/3.PnG").stat().st_mtime_ns


def test_hidden_files_and_folders_are_left_out(folder):
    touch(folder / "a" / ".hidden.jpg")
    touch(folder / ".git" / "1.jpg")
    touch(folder / "a" / ".thumbs" / "1.jpg")
    assert len(scan_folder(folder).images) == 5


def test_images_outside_class_folders_are_counted(folder):
    touch(folder / "stray.png")
    found = classes(folder)
    assert found.outside == 1
    assert b"stray.png" not in [image.path for image in found.images]


def test_links_to_folders_are_entered_only_on_request(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    touch(other / "far.jpg")
    (folder / "a" / "link.jpg").symlink_to(other / "far.jpg")
    (folder / "a" / "more").symlink_to(other)
    paths = [image.path for image in scan_folder(folder).images]
    assert b"a/link.jpg" in paths
    assert b"a/more/far.jpg" not in paths
    assert b"a/more/far.jpg" in [image.path for image in scan_folder(folder, follow_links=True).images]


def test_a_link_back_up_ends(folder):
    (folder / "a" / "again").symlink_to(folder)
    found = scan_folder(folder, follow_links=True)
    assert (b"a/again", "a link to a folder above it") in found.skipped
    (folder / "a" / "again").rename(folder / "again")
    found = scan_folder(folder)
    assert (b"again", "a link to a folder above it") in found.skipped
    assert len(found.images) == 5


def test_broken_links_pipes_and_sockets_are_skipped(folder):
    (folder / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "a" / "loop.jpg").symlink_to("loop.jpg")
    (folder / "a" / "folder.jpg").mkdir()
    (folder / "lost").symlink_to("nowhere")
    (folder / "round").symlink_to("round")
    os.mkfifo(folder / "a" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder / "a")  # the path of a socket has a short limit
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
    found = scan_folder(folder)
    reasons = dict(found.skipped)
    assert reasons[b"a/pipe.jpg"] == reasons[b"a/socket.png"] == "not a regular file"
    assert b"a/gone.jpg" in reasons
    assert b"a/loop.jpg" in reasons
    assert reasons[b"lost"] == "a broken link (no such file or directory)"
    assert reasons[b"round"].startswith("a broken link")
    assert len(found.images) == 5


def test_non_utf8_and_nfc_nfd_names_stay_separate(folder):
    nfc, nfd = "a/é.png".encode(), "a/e\u0301.png".encode()
    for name in (b"a/\xff\xfe.jpg", b"a/line\nbreak.jpg", nfc, nfd):
        with open(os.path.join(os.fsencode(folder), name), "wb"):
            pass
    paths = [image.path for image in scan_folder(folder).images]
    assert {b"a/\xff\xfe.jpg", b"a/line\nbreak.jpg", nfc, nfd} <= set(paths)


def test_classes_are_sorted_by_name_not_by_path(tmp_path):
    for name in ("a-b/1.png", "a/1.png"):
        touch(tmp_path / name)
    assert classes(tmp_path).class_names == [b"a", b"a-b"]


def test_a_folder_without_images_is_explained(tmp_path):
    with pytest.raises(ImageFolderError, match=r"has no images \(\.avif"):
        scan_folder(tmp_path)


def test_one_class_is_said_and_extracted(tmp_path):
    touch(tmp_path / "cats" / "1.jpg")
    labels = folder_labels(scan_folder(tmp_path))
    assert labels.class_names == [b"cats"]
    assert labels.notes == [
        "all images are of one class (cats), and heads need two. Put the images into one folder per class, or give "
        "labels with --labels FILE"
    ]


def test_images_beside_one_folder_have_no_labels(tmp_path):
    for name in ("1.jpg", "2.jpg", "more/3.jpg"):
        touch(tmp_path / name)
    found = scan_folder(tmp_path)
    assert folder_labels(found).names == {}
    assert len(found.images) == 3


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path):
    with pytest.raises(ImageFolderError, match="does not exist"):
        scan_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageFolderError, match="is a file"):
        scan_folder(tmp_path / "file")


def test_images_of_other_formats_are_counted_by_their_ending(folder):
    for name in ("1.PSD", "2.psd", "deep/3.jxl", "notes.txt"):
        touch(folder / "a" / name)
    found = scan_folder(folder)
    assert len(found.images) == 5
    assert found.unread_text == "1 .jxl, 2 .psd"


def test_a_folder_of_other_formats_says_what_there_is(tmp_path):
    touch(tmp_path / "a" / "1.psd")
    touch(tmp_path / "b" / "2.psd")
    with pytest.raises(ImageFolderError, match="only 2 .psd, which are not read: convert them to JPEG or PNG. Put"):
        scan_folder(tmp_path)
    with pytest.raises(ImageFolderError, match="only 2 .psd"):
        find_images([tmp_path])


def test_a_folder_without_images_is_no_class_and_is_named(folder):
    (folder / "empty" / "deeper").mkdir(parents=True)
    touch(folder / "formats" / "1.svs")
    found = classes(folder)
    assert found.empty == [b"c", b"empty", b"formats"]
    assert not set(found.empty) & set(found.class_names)


def test_a_link_to_a_folder_that_is_not_entered_is_named(folder, tmp_path_factory):
    (folder / "a" / "more").symlink_to(tmp_path_factory.mktemp("other"))
    found = scan_folder(folder)
    assert found.links == [b"a/more"]
    assert notes_on_scan(found)[-1] == "links to folders were not entered: a/more. Enter them with --follow-links"
    assert scan_folder(folder, follow_links=True).links == []


def test_class_folders_that_are_links_are_read(tmp_path, folder):
    root = tmp_path / "linked"
    root.mkdir()
    for name in "ab":
        (root / name).symlink_to(folder / name)
    found = scan_folder(root)
    assert found.images == [image for image in scan_folder(folder).images if image.path[:1] in b"ab"]
    assert found.links == []
    assert len(find_images([root]).images) == 5


def test_the_error_names_links_that_hold_the_images(tmp_path, folder):
    root = tmp_path / "linked"
    for name in "ab":
        (root / name).mkdir(parents=True)
        (root / name / "all").symlink_to(folder / name)
    with pytest.raises(
        ImageFolderError, match=r"Links to folders were not entered: a/all, b/all. Enter .*--follow-links"
    ):
        scan_folder(root)
    with pytest.raises(ImageFolderError, match="; links to folders were not entered: .*a/all"):
        find_images([root])


def test_folders_of_systems_are_left_out_and_said_once(folder):
    names = ("@eaDir", "$RECYCLE.BIN", "__MACOSX", ".thumbnails", "lost+found", "System Volume Information")
    for name in names:
        for place in (folder, folder / "a"):
            touch(place / name / "1.jpg")
    found = classes(folder)
    assert found.class_names == [b"a", b"b"]
    assert len(found.images) == len(find_images([folder]).images) == 5
    said = [note for note in notes_on_scan(found) if "@eaDir" in note]
    assert said == [
        "hidden folders and folders of the system were left out: "
        "$RECYCLE.BIN, .thumbnails, @eaDir, System Volume Information, __MACOSX, …"
    ]


def test_files_that_predict_cannot_read_have_reasons(folder):
    (folder / "a" / "more").symlink_to(folder / "b")
    (folder / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    touch(folder / "a" / "1.psd")
    unread = [reason for _, reason in find_images([folder]).unread]
    assert [reason.split(" (")[0] for reason in unread] == [
        "its format .psd is not read. Convert it to JPEG or PNG",
        "a broken link",
        "a link to a folder, which is not entered",
    ]


class Events(Progress):
    """Records the lines that are said, and the start of the embedding."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def start(self, total, what="embedding"):
        self.lines.append(what)


def extract_classes(tmp_path, names):
    for number, (name, count) in enumerate(names.items()):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(10 * number + index).integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    events = Events()
    cache = extract_features(
        tmp_path / "images", tmp_path / "c.h5", weights="random:0", alpha=0.35, image_size=32, progress=events
    )
    return events.lines[: events.lines.index("embedding")], cache.report.notes


def test_a_class_of_one_image_is_named_before_the_work(tmp_path):
    said, notes = extract_classes(tmp_path, {"a": 3, "b": 1, "c": 2})
    (note,) = notes
    assert f"Note: {note}." in said
    assert "at least 2 images in every class, but b has 1. Add images" in note


def test_class_names_that_look_alike_are_named(tmp_path):
    names = ["Cat", "cat", "dog", "caf\xe9", "cafe\u0301"]
    (tmp_path / "A").mkdir()
    if (tmp_path / "a").exists():
        pytest.skip("this file system ignores case")
    said, notes = extract_classes(tmp_path, dict.fromkeys(names, 2))
    assert [note.split(". ")[0] for note in notes] == [
        "the classes Cat and cat differ only in case",
        r"the classes 'cafe\u0301' and 'caf\xe9' differ only in Unicode form",
    ]
    assert all(f"Note: {note}." in said for note in notes)


def test_a_class_that_is_lost_in_decoding_is_named():
    (note,) = notes_on_classes({"a": 2, **dict.fromkeys("bcdefgh", 1), "i": 0})
    assert "but b has 1, c has 1, d has 1, e has 1, f has 1 and 3 more have fewer. Add" in note
