"""Files that are not plain images, and what the user gets: one test for every kind."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from embedonce.cache.names import display
from embedonce.errors import ImageError
from embedonce.extract import decoding, embed
from embedonce.extract.run import extract_features
from embedonce.extract.scan import ImageFile
from PIL import Image


@pytest.fixture
def folder(tmp_path, make_images):
    return make_images(tmp_path / "images", ("ash", "birch"), per_class=2)


@pytest.fixture
def run(folder, tmp_path, small, request):
    """Return a function that runs into one file, or into what the test asks for: the form decodes no image."""

    def update(**options):
        return extract_features(folder, tmp_path / getattr(request, "param", "a.h5"), **(small | options))

    return update


@pytest.fixture
def put(folder):
    """Return a function that writes a file into the class ash."""

    def write(name: bytes | str, data: bytes) -> bytes:
        path = os.path.join(os.fsencode(folder), b"ash", os.fsencode(name))
        with open(path, "wb") as file:
            file.write(data)
        return path

    return write


def saved(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo(draw):
    return draw(0, 500)


@pytest.fixture(scope="module")
def row_of(small):
    """Return a function from pixels to the features that they must get."""
    from embedonce.extract.engines.engines import make_engine
    from embedonce.extract.recipe import make_recipe
    from embedonce.extract.resizing import resize_into

    engine = make_engine("auto", make_recipe(small["weights"], small["alpha"], small["image_size"]))
    session = engine.session()

    def features(pixels: np.ndarray) -> np.ndarray:
        resize_into(session.slot(0), np.asarray(pixels))
        return session.run(1)[0]

    return features


def rows(cache):
    return dict(zip(cache.paths, cache.features, strict=True))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("zero.jpg", b"", "the file is empty"),
        ("text.png", b"not an image at all", "not an image"),
        ("page.jpg", b"<!doctype html><title>404</title>", "unsupported format: HTML"),
        ("new.jpg", b"RIFF\x24\0\0\0WEBPVP8 ", "damaged WebP"),
        ("scan.png", b"II*\0\x08\0\0\0", "damaged image: its header"),
        ("zeros.bmp", bytes(4096), "not an image"),
    ],
)
def test_what_is_no_image_is_rejected_with_the_reason(run, put, name, data, reason):
    put(name, data)
    updated = run()
    ((path, told),) = updated.rejects
    assert path == f"ash/{name}"
    assert told.startswith(reason)
    assert len(updated) == 4


@pytest.mark.parametrize(("kind", "ending"), [("JPEG", "jpg"), ("PNG", "png")])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_truncated_image_is_rejected_as_truncated(run, put, photo, kind, ending, share):
    data = saved(photo, format=kind)
    put(f"half.{ending}", data[: int(len(data) * share)])
    ((path, reason),) = run().rejects
    assert path == f"ash/half.{ending}"
    assert reason.startswith(f"truncated {kind}")


@pytest.mark.parametrize(
    ("kind", "ending"), [("JPEG", "png"), ("PNG", "jpg"), ("GIF", "jpeg"), ("BMP", "gif"), ("PNG", "bmp")]
)
def test_a_wrong_ending_does_no_harm(run, put, photo, row_of, kind, ending):
    image = photo.quantize(64) if kind == "GIF" else photo
    data = saved(image, format=kind)
    put(f"wrong.{ending}", data)
    cache = run()
    assert cache.rejects == []
    with Image.open(io.BytesIO(data)) as opened:
        decoded = np.asarray(opened.convert("RGB"))
    if kind == "JPEG":  # another DCT than Pillow's: within 4 levels
        np.testing.assert_allclose(rows(cache)[f"ash/wrong.{ending}"], row_of(decoded), atol=0.2)
    else:
        np.testing.assert_array_equal(rows(cache)[f"ash/wrong.{ending}"], row_of(decoded))


def test_of_an_animation_the_first_frame_is_embedded(run, put, photo, row_of):
    first = photo.quantize(32)
    others = [photo.rotate(90 * k).quantize(32) for k in (1, 2)]
    put("film.gif", saved(first, format="GIF", save_all=True, append_images=others))
    np.testing.assert_array_equal(rows(run())["ash/film.gif"], row_of(first.convert("RGB")))


@pytest.fixture(scope="module")
def tf():
    from embedonce._keras import import_keras

    import_keras()
    import tensorflow

    return tensorflow


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("I;16", "PNG")],
)
def test_other_colours_are_decoded_as_by_the_reference(run, put, photo, row_of, tf, mode, kind):
    if mode == "I;16":
        image = Image.fromarray((np.asarray(photo.convert("L")).astype(np.uint16) * 257) ^ 77)
    elif mode == "P":
        image = photo.quantize(32)
    else:
        image = photo.convert("RGBA" if mode in ("RGBA", "LA") else mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(photo.convert("L"))
            image = image.convert(mode)
    data = saved(image, format=kind)
    put(f"x.{kind.lower()}", data)
    expected = tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    np.testing.assert_array_equal(rows(run())[f"ash/x.{kind.lower()}"], row_of(expected))


def _png_of_size(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims more pixels than anybody wants to unpack."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def _jpeg_of_size(photo: Image.Image, width: int, height: int) -> bytes:
    data = bytearray(saved(photo, format="JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_headers_above_50_megapixels_are_rejected(run, put, photo):
    import resource

    put("bomb.png", _png_of_size(100_000, 100_000))
    put("bomb.jpg", _jpeg_of_size(photo, 65_500, 65_500))
    run_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rejects = dict(run().rejects)
    assert rejects["ash/bomb.png"].startswith(
        "too large: 100000 x 100000 pixels, the limit is 50 megapixels. Reduce it"
    )
    assert rejects["ash/bomb.jpg"] == "too large: 65500 x 65500 pixels, even at an eighth of its size. Reduce it"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - run_before < 1_000_000  # kB; decoded it would be 13 GB


def test_what_is_no_regular_file_is_skipped_and_never_opened(run, folder, tmp_path, monkeypatch):
    ash = folder / "ash"
    os.mkfifo(ash / "pipe.jpg")
    monkeypatch.chdir(ash)  # a socket's path may have only some hundred characters
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket.jpg")
    (ash / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (ash / "loop.jpg").symlink_to("loop.jpg")
    (ash / "device.jpg").symlink_to("/dev/zero")
    (ash / "folder.jpg").symlink_to(tmp_path)
    opened = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **more: (opened.append(os.fsdecode(path)), real(path, *rest, **more))[1]
    )
    done = []
    thread = threading.Thread(target=lambda: done.append(run()), daemon=True)
    thread.start()
    thread.join(60)
    server.close()
    assert done, "the run hangs"
    assert len(done[0]) == 4
    skipped = {"pipe", "socket", "dangling", "loop", "device", "folder"}
    assert not [path for path in opened if Path(path).stem in skipped and path.endswith(".jpg")]
    assert sum("left out ash/" in note for note in done[0].report.notes) == 5
    assert any("links to folders were not entered: ash/folder.jpg" in note for note in done[0].report.notes)


def test_a_link_to_a_folder_above_ends(run, folder):
    (folder / "ash" / "up").symlink_to(folder, target_is_directory=True)
    updated = run(follow_links=True)
    assert set(updated.class_names) == {"ash", "birch"}


@pytest.mark.parametrize("run", ["a.h5", "a.cache"], indirect=True)
def test_similar_names_stay_separate_and_print_in_one_line(run, put, photo):
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    names = [
        "line\nbreak.png",
        "\x1b[31mred.png",
        composed,
        decomposed,
        b"not utf-8 \xff.png",
        b"\xc3\x28.png",
        " .png",
    ]
    images = {}
    for number, name in enumerate(names):
        images[b"ash/" + os.fsencode(name)] = photo.rotate(number)
        put(name, saved(photo.rotate(number), format="PNG"))
    cache = run()
    found = rows(cache)
    assert {os.fsencode(path) for path in found} >= set(images)
    assert len({features.tobytes() for path, features in found.items() if os.fsencode(path) in images}) == len(names)
    for path in images:
        assert display(path).isprintable()
    assert len({display(path) for path in images}) == len(names)
    assert run().report.published is False


def test_a_file_that_vanishes_during_the_run_is_rejected(run, folder, monkeypatch):
    real = embed.read_image

    def vanishing(root, image):
        if image.path == b"ash/001.png":
            (folder / "ash" / "001.png").unlink(missing_ok=True)
        return real(root, image)

    monkeypatch.setattr(embed, "read_image", vanishing)
    updated = run()
    assert updated.rejects == [("ash/001.png", "cannot be read: No such file or directory")]
    assert len(updated) == 3
    assert run().report.removed == 1


def test_a_file_replaced_during_the_run_is_embedded_as_read(run, folder, monkeypatch, photo, row_of):
    real = embed.read_image
    content = saved(photo.rotate(33), format="PNG")

    def changing(root, image):
        if image.path == b"ash/001.png":
            (folder / "ash" / "001.png").write_bytes(content)
        return real(root, image)

    with monkeypatch.context() as patch:
        patch.setattr(embed, "read_image", changing)
        cache = run()
    np.testing.assert_array_equal(rows(cache)["ash/001.png"], row_of(np.asarray(photo.rotate(33))))
    assert cache.files.sizes[cache.paths.index("ash/001.png")] == len(content)
    assert run().report.published is False


def test_a_changing_file_is_never_half_old_and_half_new(run, folder, photo, row_of):
    """A writer overwrites an image in place, at full speed, while runs read it."""
    target = folder / "ash" / "001.png"
    states = [saved(photo.rotate(angle), format="PNG") for angle in (0, 45)]
    target.write_bytes(states[0])
    allowed = {row_of(np.asarray(photo.rotate(angle))).tobytes() for angle in (0, 45)}
    stop = threading.Event()

    def write():
        turn = 0
        while not stop.is_set():
            with open(target, "r+b") as file:  # in place: the worst that an editor can do
                file.write(states[turn][: len(states[turn]) // 2])
                file.flush()
                file.write(states[turn][len(states[turn]) // 2 :])
                file.truncate()
            turn = 1 - turn

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(15):
            cache = run()
            found = rows(cache)
            if "ash/001.png" in found:
                assert found["ash/001.png"].tobytes() in allowed
            else:
                assert any(path == "ash/001.png" for path, _ in cache.rejects)
    finally:
        stop.set()
        thread.join()
    run()
    assert rows(run())["ash/001.png"].tobytes() in allowed


@pytest.mark.parametrize(("mtime", "seconds"), [(None, 0.02), ("whole second", 2.0)])
def test_a_change_in_the_same_tick_of_the_clock_is_found(tmp_path, monkeypatch, mtime, seconds):
    """A file written twice within one step of its time stamp looks the same before and after."""
    path = tmp_path / "x.bmp"
    path.write_bytes(b"half old, ")
    if mtime:
        os.utime(path, ns=(0, int(time.time()) * 10**9))
    status = path.stat()
    slept = []

    def meanwhile(duration):
        slept.append(duration)
        path.write_bytes(b"whole new." if len(slept) < 3 else b"whole new!")
        os.utime(path, ns=(0, status.st_mtime_ns))

    monkeypatch.setattr(embed.time, "time", lambda: status.st_mtime_ns / 1e9 + 0.001)
    monkeypatch.setattr(embed.time, "sleep", meanwhile)
    image = ImageFile(b"x.bmp", status.st_size, status.st_mtime_ns)
    assert embed.read_image(tmp_path, image) == (b"whole new.", image)
    assert slept == [pytest.approx(seconds - 0.001, abs=1e-5)] * 2
    with pytest.raises(ImageError, match="changes while it is read"):
        monkeypatch.setattr(
            embed.time,
            "sleep",
            lambda duration: (path.write_bytes(os.urandom(10)), os.utime(path, ns=(0, status.st_mtime_ns))),
        )
        embed.read_image(tmp_path, image)


def test_a_file_that_is_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x.bmp").touch()
    os.truncate(tmp_path / "x.bmp", embed.MAX_BYTES + 1)  # a hole
    monkeypatch.setattr(embed, "_read_all", None)
    with pytest.raises(ImageError, match="too large: 1073741825 bytes, the limit is 1073741824"):
        embed.read_image(tmp_path, ImageFile(b"x.bmp", 0, 0))


def test_a_file_that_grows_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    path = tmp_path / "x.bmp"
    path.write_bytes(b"0123456789")
    read, calls = os.read, []

    def growing(file, count):
        calls.append(count)
        with open(path, "ab") as end:
            end.write(b"0123456789")
        return read(file, min(count, 8))

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(ImageError, match="changes while it is read"):
        embed.read_image(tmp_path, ImageFile(b"x.bmp", 10, 0))
    assert len(calls) < 100


def test_an_old_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "x.bmp"
    path.write_bytes(b"old")
    os.utime(path, (1, 1))
    monkeypatch.setattr(embed.time, "sleep", None)
    assert embed.read_image(tmp_path, ImageFile(b"x.bmp", 3, 10**9))[0] == b"old"


def test_two_files_of_one_content_both_keep_their_row(run, put, folder):
    data = (folder / "birch" / "001.png").read_bytes()
    put("copy.png", data)
    updated = run()
    found = rows(updated)
    assert updated.report.embedded + updated.report.copied == 5
    assert updated.report.copied <= 1  # none when both are under way at once
    np.testing.assert_array_equal(found["ash/copy.png"], found["birch/001.png"])
    assert len(updated) == 5


@pytest.mark.parametrize("fitting", [True, False])
def test_a_jpeg_has_a_limited_number_of_scans(monkeypatch, fitting):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scans = data.count(b"\xff\xda")
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", scans * 1200 - (not fitting))
    if fitting:
        assert decoding.decode(data).shape == (30, 40, 3)
    else:
        with pytest.raises(ImageError, match=rf"too many scans: {scans} of 40 x 30 pixels, the limit is {scans - 1}"):
            decoding.decode(data)


def test_a_jpeg_of_endless_scans_is_rejected_at_once():
    buffer = io.BytesIO()
    Image.new("L", (5000, 5000)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    begin = time.monotonic()
    with pytest.raises(ImageError, match="too many scans"):
        decoding.decode(data[:-2] + 20_000 * last + data[-2:])
    assert time.monotonic() - begin < 5
