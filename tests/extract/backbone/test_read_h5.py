"""Every kind of weights file that users have is read, or refused with the true reason."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile

import h5py
import numpy as np
import pytest
from embedonce import _hdf5
from embedonce.errors import WeightsError
from embedonce.extract.backbone.architecture import (
    is_depthwise,
    kernel_shapes,
    normalisation_of,
    random_weights,
    weight_shapes,
    weights_sha256,
)
from embedonce.extract.backbone.read_h5 import read_weights, weights_from
from embedonce.extract.backbone.resolve import resolve_weights

ALPHA = 0.35
WEIGHTS = random_weights(3, ALPHA)
TOP = {"predictions/kernel": np.zeros((1280, 7), np.float32), "predictions/bias": np.zeros(7, np.float32)}


def write_by_name(group, weights, model=None, scope=""):
    """Write as Keras 2 writes ``.h5``: flat, or as a model that is one layer of another."""
    layers = {}
    for path, value in weights.items():
        layer, _, variable = path.partition("/")
        variable = "depthwise_kernel" if layer.endswith("depthwise") else variable
        layers.setdefault(model or layer, {})[f"{layer}{scope}/{variable}:0"] = value
    group.attrs["layer_names"] = [name.encode() for name in ("input_1", *layers)]
    group.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
    for layer, values in layers.items():
        owner = group.create_group(layer)
        owner.attrs["weight_names"] = [name.encode() for name in values]
        for name, value in values.items():
            owner[name] = value


def write_by_number(group, weights, *, names=False, layers="layers"):
    """Write as Keras 3 writes ``.weights.h5``; newer versions store the names of layers."""
    counts = {}
    convolutions = [name for name in kernel_shapes(ALPHA) if f"{name}/kernel" in weights]
    for layer in (layer for name in convolutions for layer in (name, normalisation_of(name))):
        values = [value for path, value in weights.items() if path.startswith(f"{layer}/")]
        kind = "batch_normalization" if len(values) == 4 else "depthwise_conv2d" if is_depthwise(layer) else "conv2d"
        number = counts[kind] = counts.get(kind, -1) + 1
        variables = group.create_group(f"{layers}/{kind}_{number}/vars" if number else f"{layers}/{kind}/vars")
        if names:
            variables.attrs["name"] = layer
        for index, value in enumerate(values):
            variables[str(index)] = value


def keras_file(path, write, config):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", content.getvalue())


def config_of(*layers):
    return {"config": {"layers": [{"class_name": kind, "config": {"name": name}} for kind, name in layers]}}


def shift(file):
    """Write a model with a convolution before and after those of MobileNetV2, as the configuration says."""
    write_by_number(file, WEIGHTS)
    for number in range(34, -1, -1):
        file.move(f"layers/conv2d_{number}" if number else "layers/conv2d", f"layers/conv2d_{number + 1}")
    file["layers/conv2d/vars/0"] = file["layers/conv2d_36/vars/0"] = np.zeros((1, 1, 1, 3), np.float32)


def shifted_config():
    layers = [("Conv2D", "gray")]
    for name in kernel_shapes(ALPHA):
        layers.append(("DepthwiseConv2D" if is_depthwise(name) else "Conv2D", name))
        layers.append(("BatchNormalization", normalisation_of(name)))
    return config_of(*layers, ("Conv2D", "head"))


READ = {
    "legacy": lambda file: write_by_name(file, WEIGHTS),
    "legacy with top": lambda file: write_by_name(file, {**WEIGHTS, **TOP}),
    "legacy whole": lambda file: write_by_name(file.create_group("model_weights"), {**WEIGHTS, **TOP}),
    "legacy nested": lambda file: write_by_name(file.create_group("model_weights"), WEIGHTS, "mobilenetv2_0.35_96"),
    "TensorFlow 1": lambda file: write_by_name(file, WEIGHTS, "mobilenetv2_0.35_96", scope="_1"),
    "numbered": lambda file: write_by_number(file, WEIGHTS),
    "numbered nested": lambda file: write_by_number(file, WEIGHTS, layers="layers/functional/layers"),
    "Keras 2.12": lambda file: write_by_number(file, WEIGHTS, layers="_layer_checkpoint_dependencies"),
    "named": lambda file: write_by_number(file, WEIGHTS, names=True),
    "float16": lambda file: write_by_number(file, {key: value.astype(np.float16) for key, value in WEIGHTS.items()}),
}


@pytest.mark.parametrize("kind", READ)
def test_every_kind_of_keras_file_is_read(tmp_path, kind):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        READ[kind](file)
    weights = read_weights(tmp_path / "x.h5", ALPHA)
    assert list(weights) == list(WEIGHTS)
    if kind == "float16":
        np.testing.assert_allclose(weights["Conv1/kernel"], WEIGHTS["Conv1/kernel"], atol=1e-3)
    else:
        assert weights_sha256(weights) == weights_sha256(WEIGHTS)


def test_a_keras_file_is_read_with_its_configuration(tmp_path):
    keras_file(tmp_path / "plain.keras", READ["numbered"], config_of())
    keras_file(tmp_path / "shifted.keras", shift, shifted_config())
    for name in ("plain.keras", "shifted.keras"):
        assert weights_sha256(read_weights(tmp_path / name, ALPHA)) == weights_sha256(WEIGHTS)


REFUSED = {
    "another alpha": (
        lambda file: write_by_name(file, random_weights(1, 0.5)),
        r"holds the weights for alpha 0\.5, not for alpha 0\.35\. Extract with --alpha 0\.5, or give a file for alpha 0\.35",
    ),
    "an uncommon alpha": (
        lambda file: write_by_number(file, random_weights(1, 0.6)),
        r"holds the weights for alpha 0\.6, not for",
    ),
    "MobileNetV1": (lambda file: write_by_name(file, {"conv_dw_1/kernel": np.zeros(1)}), "holds MobileNetV1"),
    "MobileNetV3": (
        lambda file: write_by_name(file, {"expanded_conv_squeeze_excite_conv/kernel": np.zeros(1)}),
        "holds MobileNetV3",
    ),
    "unnamed": (
        lambda file: write_by_number(file, {path: WEIGHTS[path] for path in list(WEIGHTS)[:50]}),
        r"holds another network: it has 7 conv2d and 3 depthwise_conv2d layers, not 35 and 17",
    ),
    "another network": (
        lambda file: write_by_name(file, {"block1_conv1/kernel": np.zeros(1)}),
        "holds another network, with the layers block1_conv1",
    ),
    "a part": (
        lambda file: write_by_name(file, {path: WEIGHTS[path] for path in list(WEIGHTS)[:50]}),
        r"holds only a part of the network: block_3_depthwise/kernel and 209 more of 260 weights are missing",
    ),
    "one weight less": (
        lambda file: write_by_name(file, {path: WEIGHTS[path] for path in list(WEIGHTS)[:-1]}),
        "holds only a part of the network: Conv_1_bn/moving_variance is missing",
    ),
    "a strange shape": (
        lambda file: write_by_name(file, {**WEIGHTS, "bn_Conv1/beta": np.zeros(17, np.float32)}),
        r"holds bn_Conv1/beta with the shape \(17,\), not \(16,\), which alpha 0\.35 has",
    ),
    "two networks": (
        lambda file: [write_by_number(file, WEIGHTS, layers=name) for name in ("a/layers", "b/layers")],
        "holds 2 networks with the layers of MobileNetV2",
    ),
    "not finite": (
        lambda file: write_by_name(file, {**WEIGHTS, "bn_Conv1/gamma": np.full(16, np.nan)}),
        "holds values that are not finite numbers, in bn_Conv1/gamma",
    ),
    "integers": (
        lambda file: write_by_name(file, {**WEIGHTS, "Conv1/kernel": np.ones((3, 3, 3, 16), np.int8)}),
        "holds Conv1/kernel as int8, not as floating-point numbers. Save it as float32",
    ),
    "other HDF5": (lambda file: file.create_dataset("images", (2, 2)), "is an HDF5 file without layers of Keras"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_hdf5_files_are_refused_with_the_reason(tmp_path, kind):
    write, message = REFUSED[kind]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write(file)
    with pytest.raises(WeightsError, match=rf"must be those of a MobileNetV2, got .*x\.h5: this file {message}"):
        read_weights(tmp_path / "x.h5", ALPHA)


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
BYTES = {
    "empty.h5": (b"", "empty. Delete it and download"),
    "page.h5": (b"\n<!DOCTYPE html><html>Log in</html>", "a web page"),
    "page.keras": (b"\xef\xbb\xbf<HTML>", "a web page"),
    "error.h5": (b"<?xml version='1.0'?><Error/>", "an XML file"),
    "lfs.h5": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of Git LFS .* git lfs pull"),
    "annex.h5": (b"/annex/objects/SHA256E-s9--aa.h5\n", "a pointer of git-annex"),
    "model.json": (b'{"class_name": "Functional"}', "a JSON file"),
    "x.h5.gz": (b"\x1f\x8b\x08\x00", r"compressed \(gzip\). Unpack it"),
    "x.tflite": (b"\x1c\0\0\0TFL3\0\0", "a TensorFlow Lite model"),
    "x.safetensors": (struct.pack("<Q", len(HEADER)) + HEADER + b"0000", "a safetensors file"),
    "x.onnx": (b"\x08\x07\x12\x07", "an ONNX model"),
    "x": (b"\x08\x07\x12\x07pytorch\x1a\x05", "an ONNX model"),
    "x.ckpt.index": (b"\0\0\0", "a part of a TensorFlow checkpoint"),
    "saved_model.pb": (b"\x08\x01", "a graph of TensorFlow"),
    "old.pth": (b"\x80\x02}q\x00", "a pickle"),
    "text.h5": (b"hello world", "not a Keras file: it begins with b'hello world'"),
}


@pytest.mark.parametrize("name", BYTES)
def test_files_of_other_kinds_are_named(tmp_path, name):
    content, message = BYTES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"this file is {message}"):
        read_weights(tmp_path / name, ALPHA)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("archive/data.pkl", "a PyTorch file"),
        ("mobilenet/x.h5", "a zip archive. Unpack it"),
        ("a.npy", r"a zip archive without weights of Keras \(it holds a\.npy\)"),
        ("\x1b[2J", r"a zip archive without weights of Keras \(it holds \\x1b\[2J\)"),
    ],
)
def test_zip_archives_of_other_kinds_are_named(tmp_path, member, message):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr(member, b"")
    with pytest.raises(WeightsError, match=f"this file is {message}"):
        read_weights(tmp_path / "x", ALPHA)


def test_truncated_downloads_are_named(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        READ["legacy"](file)
    keras_file(tmp_path / "x.keras", READ["numbered"], config_of())
    for name in ("x.h5", "x.keras"):
        content = (tmp_path / name).read_bytes()
        for size in (100, len(content) // 2, len(content) - 10):
            (tmp_path / name).write_bytes(content[:size])
            with pytest.raises(WeightsError, match="this file is truncated. Delete it and download"):
                read_weights(tmp_path / name, ALPHA)


def test_damaged_bytes_are_named(tmp_path):
    keras_file(tmp_path / "x.keras", READ["numbered"], config_of())
    content = bytearray((tmp_path / "x.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.keras").write_bytes(content)
    with pytest.raises(WeightsError, match=r"this file is damaged \(Bad CRC-32"):
        read_weights(tmp_path / "x.keras", ALPHA)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("saved_model.pb", "is a SavedModel folder, and those are not read. Load it in TensorFlow"),
        ("checkpoint", "is a TensorFlow checkpoint, and those are not read"),
        ("model.weights.h5", r"is a folder. Give the file model\.weights\.h5 in it"),
        ("x.txt", "is a folder. Give a Keras file"),
    ],
)
def test_folders_are_named(tmp_path, file, message):
    (tmp_path / file).write_text("")
    with pytest.raises(WeightsError, match=f", which {message}"):
        resolve_weights(tmp_path, ALPHA, 96)


def test_links_and_pipes_are_named(tmp_path):
    (tmp_path / "link.h5").symlink_to("nowhere.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    for name, message in (("link.h5", "is a broken link"), ("pipe.h5", "is not a regular file")):
        with pytest.raises(WeightsError, match=f"which {message}"):
            resolve_weights(tmp_path / name, ALPHA, 96)


def test_links_out_of_a_file_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        READ["numbered"](file)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/layers")
    with pytest.raises(WeightsError, match=r"x\.h5: this file has a link to another place \('layers'\), which is not"):
        read_weights(tmp_path / "x.h5", ALPHA)


def test_claims_of_a_keras_file_are_checked_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(_hdf5, "_SMALL", 0)
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(20_000))
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(
        WeightsError, match=r"claims 20,000 bytes for model\.weights\.h5 in it, too many for a file of \d+\."
    ):
        read_weights(tmp_path / "x.keras", ALPHA)


@pytest.mark.parametrize("config", ["[]", '{"config": []}', '{"config": {"layers": [3]}}', "[" * 100_000, "\x00"])
def test_forged_configurations_are_damage(tmp_path, config):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", config)
    with pytest.raises(WeightsError, match=r"x\.keras: this file is damaged \("):
        read_weights(tmp_path / "x.keras", ALPHA)


def test_names_of_layers_are_shown_without_control_characters(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_by_name(file, {"\x1b[2J/kernel": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"with the layers \\x1b\[2J\."):
        read_weights(tmp_path / "x.h5", ALPHA)


def test_weights_that_change_after_their_hash_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        READ["numbered"](file)
    source = resolve_weights(tmp_path / "x.h5", ALPHA, 96)
    assert weights_sha256(weights_from(source, ALPHA)) == weights_sha256(WEIGHTS)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["layers/conv2d/vars/0"][...] = 0
    with pytest.raises(WeightsError, match=r"x\.h5 changed while it was read. Run the command again"):
        weights_from(source, ALPHA)


def test_a_file_larger_than_any_weights_is_not_read(tmp_path):
    with open(tmp_path / "x.h5", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match=r"x\.h5, which has 1,099,511,627,776 bytes, more than 1,073,741,824"):
        resolve_weights(tmp_path / "x.h5", ALPHA, 96)


def test_a_changed_byte_is_an_error_or_another_number(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        READ["numbered"](file)
    content = (tmp_path / "x.h5").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.integers(0, 40_000, 12).tolist():  # groups, names and the first layers
        changed = bytearray(content)
        changed[place] ^= int(generator.integers(1, 256))
        (tmp_path / "x.h5").write_bytes(changed)
        try:
            weights = read_weights(tmp_path / "x.h5", ALPHA)
        except WeightsError:
            refused += 1
        else:
            assert {name: weight.shape for name, weight in weights.items()} == weight_shapes(ALPHA)
    assert refused


def test_an_array_that_is_missing_is_named(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        READ["legacy"](file)
        del file["Conv1/Conv1/kernel:0"]
    with pytest.raises(WeightsError, match=r"is damaged \(there is no 'Conv1/Conv1/kernel:0' in it\)"):
        read_weights(tmp_path / "x.h5", ALPHA)
