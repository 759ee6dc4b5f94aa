"""HDF5 files of other people are read in a child process, and never lead out of themselves."""

from __future__ import annotations

import io
import json
import os
import sys

import h5py
import numpy as np
import pytest
from embedonce import _hdf5
from embedonce._hdf5 import Hdf5Error, is_hdf5, read_hdf5
from embedonce.errors import EmbedonceError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def written(write, **options):
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        write(file)
    return content.getvalue()


def write_plain(file):
    file["a/vars/0"] = VALUES
    file.create_dataset("a/vars/1", data=VALUES.astype(">f2"), chunks=(1, 3), compression="gzip", shuffle=True)
    file["a/vars/2"] = np.float64(2.5)
    file["empty"] = np.zeros((0, 3), np.int16)
    file["text"] = "words"
    file["null"] = h5py.Empty("f4")
    file["optimizer/vars/0"] = VALUES
    file["a/vars"].attrs["name"] = "größe"
    file.attrs["layer_names"] = [b"a", b"b"]
    file.attrs["other"] = np.array(["a", "b"], h5py.string_dtype())
    file.attrs["number"] = 3


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 1024}, {"track_order": True}])
def test_arrays_and_text_come_back(options):
    content = read_hdf5(written(write_plain, **options))
    assert sorted(content.arrays) == ["a/vars/0", "a/vars/1", "a/vars/2", "empty"]
    np.testing.assert_array_equal(content.arrays["a/vars/0"], VALUES)
    np.testing.assert_array_equal(content.arrays["a/vars/1"], VALUES)
    assert content.arrays["a/vars/1"].dtype == ">f2"
    assert content.arrays["a/vars/2"] == 2.5
    assert content.arrays["empty"].shape == (0, 3)
    assert content.attributes["a/vars"] == {"name": "größe"}
    assert content.attributes[""]["layer_names"] == ["a", "b"]


def test_arrays_that_are_only_checked_stay_in_the_child():
    assert read_hdf5(written(write_plain), arrays=False).arrays == {}


def write_virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (3,))
    file.create_virtual_dataset("x", layout)


def write_reference(file):
    file["x"] = VALUES
    file.create_dataset("y", (1,), h5py.ref_dtype)[0] = file["x"].ref


def write_reference_attribute(file):
    file["x"] = VALUES
    file["x"].attrs["y"] = file["x"].ref


def write_circle(file):
    file.create_group("a/b")
    file["a/b/c"] = file["a"]


def write_lattice(file):
    """Write groups of which each is in the one above under two names: 2 ** 30 paths."""
    group = file
    for _ in range(30):
        group, above = file.create_group(None), group
        above["l"] = above["r"] = group


def write_many(file):
    for number in range(40):
        file.create_dataset(str(number), (1 << 20,), "f4")


def write_forged_float(file):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(64)
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, b"x", kind, space)


REFUSED = {
    "external link": (lambda file: file.update({"a": h5py.ExternalLink("secret.h5", "/x")}), r"has a link .*\('a'\)"),
    "soft link": (lambda file: file.update({"a": h5py.SoftLink("/nowhere")}), r"has a link .*\('a'\)"),
    "link at the optimizer": (lambda file: file.update({"optimizer": h5py.SoftLink("/x")}), "has a link"),
    "external storage": (
        lambda file: file.create_dataset("x", (3,), "f4", external=[("secret", 0, 12)]),
        r"has an array whose values are in another file \('x'\)",
    ),
    "virtual dataset": (write_virtual, r"has an array whose values are in another file \('x'\)"),
    "reference": (write_reference, r"has a reference \('y'\)"),
    "reference in an attribute": (write_reference_attribute, r"has a reference \('x/y'\)"),
    "circle": (write_circle, "has groups without end, or one under two names"),
    "lattice": (write_lattice, "has groups without end, or one under two names"),
    "depth": (lambda file: file.create_group("a/" * 60), "has groups without end"),
    "864 GB": (
        lambda file: file.create_dataset("x", (216 * 10**9,), "f4", chunks=(1024,)),
        "claims arrays of 864,000,000,000 bytes, too many for a file of",
    ),
    "many arrays": (write_many, "claims arrays of .* bytes, too many"),
    "large chunks": (
        lambda file: file.create_dataset("x", (3,), "f4", chunks=(1 << 28,), maxshape=(None,)),
        "claims arrays of 1,073,741,824 bytes",
    ),
    "unknown filter": (
        lambda file: file.create_dataset("x", (3,), "f4", chunks=(3,), compression=32015, allow_unknown_filter=True),
        "has an array that is compressed in an unknown way",
    ),
    "forged numbers": (write_forged_float, "has an array of numbers that NumPy does not know"),
    "control characters": (lambda file: file.update({"\x1b[2J": h5py.SoftLink("/x")}), r"\('\\x1b\[2J'\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_leads_out_of_a_file_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["x"] = np.ones(3, np.float32)
    write, message = REFUSED[kind]
    with pytest.raises(Hdf5Error, match=message):
        read_hdf5(written(write))


def test_many_objects_are_refused(monkeypatch):
    data = written(write_plain)
    monkeypatch.setattr(_hdf5, "_MOST_OBJECTS", 3)
    with pytest.raises(Hdf5Error, match="has more than 3 objects and attributes"):
        _hdf5._Reader(data, 1 << 20).read()


def test_overlapping_arrays_are_refused():
    data = written(lambda file: file.update({"x": VALUES, "y": 2 * VALUES, "z": 3 * VALUES}))
    with h5py.File(io.BytesIO(data)) as file:
        places = [file[name].id.get_offset().to_bytes(8, "little") for name in "xy"]
    assert data.count(places[1]) == 1
    with pytest.raises(Hdf5Error, match="is damaged"):
        read_hdf5(data.replace(places[1], (int.from_bytes(places[0], "little") + 4).to_bytes(8, "little")))


def test_truncated_files_are_named():
    with pytest.raises(Hdf5Error, match="^is truncated$"):
        read_hdf5(written(write_plain)[:-100])


CHILDREN = {
    "crash": ("import os; os.abort()", r"is damaged \(the HDF5 library crashes over it\)"),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed, perhaps for lack of memory"),
    "hang": ("import time; time.sleep(60)", "takes more than 0.5 seconds to read"),
    "memory": (
        "import sys, json; from embedonce import _hdf5 as h; r = json.loads(sys.argv[1]); "
        "h._Reader.read = lambda *_: bytes(1 << 40); h.serve()",
        "needs more than .* MiB of memory to read",
    ),
}


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_fails_is_an_error(monkeypatch, kind):
    code, message = CHILDREN[kind]
    monkeypatch.setattr(_hdf5, "_START", code)
    monkeypatch.setattr(_hdf5, "_SECONDS", 0.5 if kind == "hang" else 30)
    with pytest.raises(Hdf5Error, match=message):
        read_hdf5(written(write_plain))


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_byte_that_lets_the_library_loop_is_an_error(monkeypatch):
    data = bytearray(written(lambda file: file.attrs.update({"name": "head"})))
    size = data.index(b"GCOL") + 16 + 8  # of the only string; the next one begins among zeros
    assert data[size] == 4
    data[size] = 100
    monkeypatch.setattr(_hdf5, "_PROCESSOR_SECONDS", 1)
    with pytest.raises(Hdf5Error, match="takes more than 1 seconds to read"):
        read_hdf5(bytes(data))


def test_a_python_that_cannot_start_is_no_fault_of_the_file(monkeypatch, tmp_path):
    data = written(write_plain)
    for executable in ("", str(tmp_path / "none")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(EmbedonceError, match="second Python process, which cannot be started: .*Run embedonce in"):
            read_hdf5(data)
    monkeypatch.undo()
    monkeypatch.setattr(_hdf5, "_START", "import h6py")
    with pytest.raises(EmbedonceError, match="cannot be started: ModuleNotFoundError: No module named 'h6py'"):
        read_hdf5(data)


def test_the_child_runs_no_code_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("h5py", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    assert read_hdf5(written(write_plain)).arrays


def test_what_the_child_prints_by_other_code_is_ignored(monkeypatch):
    monkeypatch.setattr(_hdf5, "_START", f"print('hello', flush=True); {_hdf5._START}")
    np.testing.assert_array_equal(read_hdf5(written(write_plain)).arrays["a/vars/0"], VALUES)


def test_closed_standard_streams_are_no_obstacle(tmp_path, python):
    (tmp_path / "x.h5").write_bytes(written(write_plain))
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom embedonce._hdf5 import read_hdf5\n"
        "os.close(0); os.close(2)\nprint(len(read_hdf5(Path(sys.argv[1]).read_bytes()).arrays))"
    )
    assert python(code, tmp_path / "x.h5") == "4\n"


def test_the_signature_may_follow_a_user_block():
    assert is_hdf5(written(write_plain))
    assert is_hdf5(written(write_plain, userblock_size=512))
    assert not is_hdf5(b"")
    assert not is_hdf5(b"\x00" + written(write_plain))


def test_the_child_answers_with_json_after_the_arrays(monkeypatch, capfdbinary):
    stream = io.TextIOWrapper(io.BytesIO(written(write_plain)))
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setattr(sys, "argv", ["-c", json.dumps({"memory": 0, "seconds": 0, "limit": 1 << 20, "arrays": True})])
    monkeypatch.setattr(_hdf5, "_set_limits", lambda memory, seconds: None)
    monkeypatch.setattr(os, "_exit", lambda status: None)
    _hdf5.serve()
    np.testing.assert_array_equal(_hdf5._decode(capfdbinary.readouterr().out).arrays["a/vars/0"], VALUES)
