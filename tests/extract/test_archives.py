"""Archives are read as image folders, and what is dangerous in them is named and not read."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile

import numpy as np
import pytest
from embedonce import extract_features, verify
from embedonce.errors import ImageError, ImageFolderError
from embedonce.extract import archives, find_images
from embedonce.extract.embed import read_image
from embedonce.extract.scan import ImageFile, scan_folder

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".deflated.zip", ".TAR.GZ")


def write(path, members, links=()):
    """Write an archive of a dict from names to bytes; None is a folder."""
    if path.suffix.lower() == ".zip":
        method = zipfile.ZIP_DEFLATED if "deflated" in path.name else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name + "/" * (data is None)), data or b"", method)
            for name, target in links:
                info = zipfile.ZipInfo(name)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, target)
        return path
    with tarfile.open(path, "w:" if path.suffix == ".tar" else "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.size = tarfile.DIRTYPE if data is None else tarfile.REGTYPE, len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def files_of(folder, top=""):
    """Return the files of a folder, in an order that is not sorted."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    random.Random(0).shuffle(paths)
    return {top + path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def photos(tmp_path, make_images):
    return make_images(tmp_path / "photos", per_class=4)


FEW = {f"{name}/{number}.png": bytes([number]) * 9 for name in ("ash", "birch") for number in range(2)}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_is_read_as_its_folder(photos, tmp_path, small, ending):
    archive = write(tmp_path / f"a{ending}", files_of(photos) | {"notes.txt": b"", "ash": None, "empty": None})
    folder = extract_features(photos, tmp_path / "f.h5", **small)
    with folder, extract_features(archive, tmp_path / "a.h5", **small) as cache:
        assert cache.paths == folder.paths
        assert (cache.features[:] == folder.features[:]).all()
        assert (cache.files.hashes == folder.files.hashes).all()
        assert cache.provenance["image_root"] == str(archive)
        assert cache.report.notes == ["folders without images are not classes: empty"]
    with extract_features(archive, tmp_path / "a.h5", **small) as again:
        assert again.report.unchanged == 12
        assert not again.report.published
    assert verify(tmp_path / "a.h5", archive, sample=4).ok
    names = {archive.name, "photos", "a.h5", ".a.h5.lock", "f.h5", ".f.h5.lock"}
    assert set(os.listdir(tmp_path)) == names  # nothing was unpacked


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_only_the_changed_member_is_embedded(photos, tmp_path, small, draw, ending):
    archive = write(tmp_path / f"a{ending}", files_of(photos))
    extract_features(archive, tmp_path / "a.h5", **small).close()
    files = files_of(photos)
    data = io.BytesIO()
    draw(0, 99).save(data, "bmp")
    assert len(files["ash/003.bmp"]) == len(data.getvalue())  # only its content differs
    write(archive, files | {"ash/003.bmp": data.getvalue()})
    with extract_features(archive, tmp_path / "a.h5", **small) as cache:
        assert (cache.report.embedded, cache.report.changed, cache.report.unchanged) == (1, 1, 11)


def test_a_folder_that_is_packed_is_not_embedded_again(photos, tmp_path, small):
    extract_features(photos, tmp_path / "a.h5", **small).close()
    with extract_features(write(tmp_path / "a.zip", files_of(photos)), tmp_path / "a.h5", **small) as cache:
        assert cache.report.embedded == 0
        assert cache.report.unchanged == 12


def test_a_common_folder_at_the_top_is_the_root(photos, tmp_path, small):
    files = files_of(photos, "data/photos/") | {"__MACOSX/data/photos/ash/._000.png": b"", "README.md": b""}
    archive = write(tmp_path / "a.tar", files)
    with extract_features(archive, tmp_path / "a.h5", **small) as cache:
        assert cache.class_names == ["ash", "birch", "cedar"]
        assert cache.report.notes == [
            "all images of the archive are in its folder data/photos, which is the image folder here",
            "hidden folders and folders of the system were left out: __MACOSX",
        ]
    assert read_image(archive, ImageFile(b"ash/000.jpg", 0, 0))[0] == (photos / "ash" / "000.jpg").read_bytes()


def test_an_archive_of_one_folder_has_no_labels(tmp_path, photos, small):
    archive = write(tmp_path / "a.zip", files_of(photos / "ash", "top/ash/"))
    with extract_features(archive, tmp_path / "a.h5", **small) as cache:
        assert cache.paths == ["000.jpg", "001.png", "002.jpeg", "003.bmp"]
        assert cache.class_names == []


OUTSIDE = ("/etc/1.png", "../1.png", "ash/../../1.png", "C:/1.png", "c:1.png", "ash\\1.png", "ash/..")


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_paths_that_leave_the_root_are_not_read(tmp_path, ending):
    scan = scan_folder(write(tmp_path / f"a{ending}", FEW | dict.fromkeys(OUTSIDE, b"x")))
    assert [image.path.decode() for image in scan.images] == sorted(FEW)
    assert {path.decode() for path, reason in scan.skipped if "its path is absolute" in reason} == set(OUTSIDE)


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_links_in_archives_are_named_and_not_followed(tmp_path, ending):
    links = [("ash/9.png", "../../secret.png"), ("birch/all", "/"), ("cedar", "ash")]
    (tmp_path / "secret.png").touch()
    scan = scan_folder(write(tmp_path / f"a{ending}", FEW, links))
    assert len(scan.images) == 4
    assert dict(scan.skipped) == {name.encode(): "a link, which is not followed" for name, _ in links}


def test_hard_links_devices_and_sparse_files_are_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in FEW.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind in (("h", tarfile.LNKTYPE), ("f", tarfile.FIFOTYPE), ("d", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(f"ash/{name}.png")
            info.type, info.linkname = kind, "ash/0.png"
            archive.addfile(info)
    assert scan_folder(tmp_path / "a.tar").skipped == [
        (b"ash/h.png", "a link, which is not followed"),
        (b"ash/f.png", "not a regular file"),
        (b"ash/d.png", "not a regular file"),
    ]


@pytest.mark.parametrize("others", [FEW, {}])
def test_encrypted_members_are_named(tmp_path, others):
    path = write(tmp_path / "a.zip", others | {"ash/secret.png": b"x"})
    data = path.read_bytes()
    place = data.rindex(b"ash/secret.png") - 46  # its entry in the directory
    path.write_bytes(data[: place + 8] + b"\1" + data[place + 9 :])
    if others:
        assert scan_folder(path).skipped == [(b"ash/secret.png", "it is encrypted")]
        return
    for scan in (scan_folder, lambda path: find_images([path])):
        with pytest.raises(ImageFolderError, match=r"eft out .*ash/secret.png: it is encrypted"):
            scan(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_named(tmp_path):
    path = write(tmp_path / "a.zip", FEW)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("./ash//0.png", b"other")
    scan = scan_folder(path)
    assert scan.skipped == [(b"ash/0.png", "the archive has two files of this name")]
    assert len(scan.images) == 3


def test_archives_inside_are_counted_and_not_entered(tmp_path):
    scan = scan_folder(write(tmp_path / "a.zip", FEW | {"ash/b.zip": b"PK", "all.TAR.GZ": b"", "ash/1.heif.7z": b""}))
    assert len(scan.skipped) == 3
    assert {reason for _, reason in scan.skipped} == {"an archive inside the archive, which is not entered"}


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_too_many_members_are_refused(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 99)
    with pytest.raises(ImageFolderError, match=r"is refused: it has more than 99 members. If you trust it, unpack it"):
        scan_folder(write(tmp_path / f"a{ending}", FEW | {f"{number}.txt": b"" for number in range(96)}))


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_too_large_archives_are_refused(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 35)
    with pytest.raises(ImageFolderError, match="is refused: its images have 36 bytes, the limit is 35"):
        scan_folder(write(tmp_path / f"a{ending}", FEW))


@pytest.mark.parametrize("ending", [".deflated.zip", ".tgz"])
def test_a_bomb_is_refused(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "FREE_BYTES", 100_000)
    zeros = {f"{name}/{number}.png": bytes(99_000) for name in ("ash", "birch") for number in range(60)}
    with pytest.raises(ImageFolderError, match="is refused: it unpacks to more than 200 times its size"):
        scan_folder(write(tmp_path / f"a{ending}", zeros))


def test_a_member_that_is_a_bomb_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1000)
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 200_000)
    noise = np.random.default_rng(0).bytes(190_000)
    path = write(tmp_path / "a.deflated.zip", FEW | {"ash/8.png": bytes(190_000), "ash/9.png": noise * 2})
    assert scan_folder(path).skipped == [
        (b"ash/8.png", "it unpacks to more than 200 times its size"),
        (b"ash/9.png", "too large: 380120 bytes, the limit is 200000"),
    ]


def test_a_member_larger_than_it_says_is_cut_off(tmp_path):
    path = write(tmp_path / "a.deflated.zip", FEW | {"ash/8.png": bytes(10_000_000)})
    data = path.read_bytes()
    place = data.rindex(b"ash/8.png") - 46
    path.write_bytes(data[: place + 24] + (100).to_bytes(4, "little") + data[place + 28 :])
    with pytest.raises(ValueError, match="damaged in the archive: its checksum differs"):
        read_image(path, ImageFile(b"ash/8.png", 0, 0))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cut_archive_is_one_line(photos, tmp_path, ending):
    path = write(tmp_path / f"a{ending}", files_of(photos))
    data = path.read_bytes()
    for length in (0, 1, 300, len(data) // 2, len(data) - 10_400):
        path.write_bytes(data[: max(length, 0)])
        with pytest.raises(ImageFolderError, match=r"is damaged or neither zip nor tar: .+\. Download") as error:
            scan_folder(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_mutated_archives_are_errors_or_read(photos, tmp_path, ending):
    path = write(tmp_path / f"a{ending}", files_of(photos))
    data, generator = bytearray(path.read_bytes()), random.Random(0)
    headers = [place for place in range(len(data)) if ending == ".tgz" or data[place] < 128][::7]
    for round_ in range(60):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 20)):
            changed[generator.choice(headers)] = generator.choice([0, 1, 127, 128, 255, generator.randrange(256)])
        mutated = tmp_path / f"{round_}{ending}"
        mutated.write_bytes(changed)
        try:
            for image in scan_folder(mutated).images:
                try:
                    read_image(mutated, image)
                except ImageError:
                    continue
        except ImageFolderError:
            continue


def test_a_damaged_header_of_a_tar_archive_is_found(tmp_path):
    path = write(tmp_path / "a.tar", FEW)
    data = bytearray(path.read_bytes())
    data[2048 + 150] ^= 1  # the checksum of the third member
    path.write_bytes(data)
    with pytest.raises(ImageFolderError, match="the header of a member cannot be read"):
        scan_folder(path)


def test_a_member_of_negative_size_is_an_error(tmp_path):
    info = tarfile.TarInfo("ash/1.png")
    info.size = -1024
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ImageFolderError, match="impossible size"):
        scan_folder(tmp_path / "a.tar")


@pytest.mark.parametrize("ending", [".zip", ".deflated.zip"])
def test_a_damaged_member_is_a_reject(photos, tmp_path, small, ending):
    path = write(tmp_path / f"a{ending}", files_of(photos))
    data = bytearray(path.read_bytes())
    place = data.index(b"ash/000.jpg") + 400
    data[place] ^= 255
    path.write_bytes(data)
    with extract_features(path, tmp_path / "a.h5", **small) as cache:
        assert len(cache) == 11
        [(name, reason)] = cache.rejects
        assert name == "ash/000.jpg"
        assert reason.startswith("damaged in the archive: ")


def test_other_kinds_of_archives_are_named(tmp_path):
    for name in ("a.7z", "a.tar.bz2", "a.RAR", "a.gz"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ImageFolderError, match=r"of a kind that is not read. Save it as .zip, .tar or .tar.gz"):
            scan_folder(tmp_path / name)


def test_a_folder_with_the_name_of_an_archive_is_a_folder(photos, tmp_path, small):
    photos = photos.rename(tmp_path / "photos.zip")
    assert len(extract_features(photos, tmp_path / "a.h5", **small)) == 12


def test_images_of_archives_are_found_for_predictions(photos, tmp_path):
    archive = write(tmp_path / "a.tar", files_of(photos, "top/") | {"top/raw.cr2": b""})
    found = find_images([archive, photos / "ash" / "000.jpg", archive / "ash" / "000.jpg"])
    assert len(found.images) == 13
    assert found.unread == [
        (os.fsencode(archive / "raw.cr2"), "its format .cr2 is not read. Convert it to JPEG or PNG")
    ]
    for image in found.images:
        path = photos / os.fsdecode(image.path).removeprefix(f"{archive}/")
        assert read_image(tmp_path.parent, image)[0] == path.read_bytes()
    with pytest.raises(ImageFolderError, match="cannot read .*nothing.jpg: Not a directory"):
        find_images([archive / "nothing.jpg"])


def test_content_decides_over_the_name(tmp_path):
    path = write(tmp_path / "a.tar.gz", FEW).rename(tmp_path / "a.zip")
    assert len(scan_folder(path).images) == 4
    assert len(scan_folder(write(tmp_path / "b.zip", FEW).rename(tmp_path / "b.tar")).images) == 4


def test_names_without_a_mark_of_utf_8_are_read_as_utf_8(tmp_path):
    path = write(tmp_path / "a.zip", {"Bäume/1.png": b"", "ash/1.png": b""})
    path.write_bytes(path.read_bytes().replace(b"\x00\x08", b"\0\0"))
    assert [image.path for image in scan_folder(path).images] == ["Bäume/1.png".encode(), b"ash/1.png"]


def test_gzip_in_parts_is_read_at_any_place(tmp_path, monkeypatch):
    content = np.random.default_rng(0).bytes(30_000) + bytes(70_000)
    parts = [content[start : start + 9_000] for start in range(0, len(content), 9_000)]
    (tmp_path / "a.gz").write_bytes(b"".join(map(gzip.compress, parts)) + bytes(700))
    reader = archives.Gunzip(os.fsencode(tmp_path / "a.gz"), (tmp_path / "a.gz").stat().st_size)
    monkeypatch.setattr(reader, "_block_bytes", 4096)
    monkeypatch.setattr(archives, "FREE_BYTES", 8192)
    generator = random.Random(0)
    for _ in range(300):
        start, count = generator.randrange(110_000), generator.randrange(1, 20_000)
        assert reader.read(start, count) == content[start : start + count]
        assert len(reader._blocks) <= 2


def test_an_archive_that_changes_while_it_is_read_is_noticed(photos, tmp_path):
    path = write(tmp_path / "a.tar", files_of(photos))
    archive, inside = archives.find_archive(os.fsencode(path / "ash" / "000.jpg"))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="the archive changes"):
        archive.read(inside)
