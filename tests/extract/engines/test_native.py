"""The native engine: Keras's features for every width and size, and the same bits however the work is cut."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
from embedonce.errors import EngineError, ParameterError
from embedonce.extract.backbone.architecture import (
    kernel_shapes,
    random_weights,
    weight_shapes,
    weights_sha256,
)
from embedonce.extract.backbone.keras_model import build_backbone, build_embedder, weights_of
from embedonce.extract.backbone.read_h5 import read_weights
from embedonce.extract.engines import engines, native, native_plan
from embedonce.extract.engines import prepared_models as store
from embedonce.extract.engines.fold import fold, from_bytes, to_bytes
from embedonce.extract.engines.native import NativeSession, chosen_lanes, supported_lanes, why_not_native
from embedonce.extract.engines.native_plan import column_widths, make_program, panel_widths
from embedonce.extract.engines.reference import reference_features
from embedonce.extract.options import ComputeOptions
from embedonce.extract.recipe import make_recipe
from embedonce.extract.run import extract_features
from hypothesis import given, settings
from hypothesis import strategies as st

needs_native = pytest.mark.skipif(bool(why_not_native()), reason=why_not_native() or "native runs here")


def random_images(size, count=2, seed=0):
    return np.random.RandomState(seed).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def embed(session, images):
    rows = []
    for image in images:
        np.copyto(session.slot(0), image)
        rows.append(session.run(1)[0])
    return np.stack(rows)


def native_session(folded, size, lanes=None):
    return NativeSession(make_program(folded, size, lanes or chosen_lanes()))


@pytest.fixture(scope="module")
def backbone():
    return build_backbone(make_recipe("random:3", 0.35, 64).weights, 0.35, 64)


@pytest.fixture(scope="module")
def folded(backbone):
    return fold(weights_of(backbone))


@lru_cache(maxsize=16)
def built(alpha, size):
    """Return a backbone in Keras; building one takes seconds."""
    return build_backbone(make_recipe("random:3", alpha, size).weights, alpha, size)


WIDTHS_AND_SIZES = [
    (0.1, 65),  # so narrow that the first block has a residual
    (0.35, 32),  # one place at the end
    (0.5, 96),
    (0.75, 97),  # 24 channels, which fill one and a half panels; odd sizes, which are padded on all sides
    (1.0, 224),  # tiles that divide all maps
    (1.3, 100),  # 40 channels
    (1.33, 32),  # 1704 features, which fill half of the last panel
    (1.4, 33),  # 48 channels, 1792 features
    (0.35, 500),  # large maps, many strips
]


@needs_native
@pytest.mark.parametrize(("alpha", "size"), WIDTHS_AND_SIZES)
def test_features_equal_keras_for_every_width_and_size(alpha, size):
    backbone, images = built(alpha, size), random_images(size)
    expected = np.asarray(build_embedder(backbone)(images, training=False))
    got = embed(native_session(fold(weights_of(backbone)), size), images)
    assert got.dtype == np.float32
    assert expected.std() > 0.01
    np.testing.assert_allclose(got, expected, atol=5e-5)


@pytest.mark.parametrize(("alpha", "size"), [(0.1, 65), (0.35, 32), (1.4, 33)])
def test_plain_numpy_gives_the_features_of_keras(alpha, size):
    backbone, images = built(alpha, size), random_images(size)
    expected = np.asarray(build_embedder(backbone)(images, training=False))
    np.testing.assert_allclose(reference_features(fold(weights_of(backbone)), images), expected, atol=5e-5)


@pytest.mark.parametrize(("alpha", "size"), [*WIDTHS_AND_SIZES[:-1], (2.0, 32)])
def test_names_shapes_and_order_of_weights_equal_keras(alpha, size):
    backbone = built(alpha, size)
    assert {variable.path: tuple(variable.shape) for variable in backbone.weights} == weight_shapes(alpha)
    assert list(weight_shapes(alpha)) == [variable.path for variable in backbone.weights]
    assert weights_sha256(random_weights(3, alpha)) == weights_sha256(weights_of(backbone))


def write_legacy(backbone, path):
    """Write weights as the files that Keras distributes have them."""
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name.encode() for layer in backbone.layers])
        for layer in backbone.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            names = [name.replace("kernel", "depthwise_kernel") if "depthwise/" in name else name for name in names]
            group.attrs["weight_names"] = np.array(names, dtype=text)
            for name, variable in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(variable)


def test_both_forms_of_weights_files_are_read_without_keras(backbone, tmp_path):
    backbone.save_weights(tmp_path / "new.weights.h5")
    write_legacy(backbone, tmp_path / "old.h5")
    expected = weights_of(backbone)
    for name in ("new.weights.h5", "old.h5"):
        loaded = read_weights(tmp_path / name, 0.35)
        assert loaded is not None, name
        assert list(loaded) == list(expected)
        for path, value in expected.items():
            np.testing.assert_array_equal(loaded[path], value)
        by_keras = build_backbone(make_recipe(tmp_path / name, 0.35, 64).weights, 0.35, 64)
        assert weights_sha256(weights_of(by_keras)) == weights_sha256(loaded)


@needs_native
@pytest.mark.parametrize("cut", [{"_STRIP": 1}, {"_STRIP": 40}, {"_STRIP": 10_000}, {"_WHOLE": 0}, {"_WHOLE": 10_000}])
def test_how_maps_are_cut_into_strips_changes_no_bit(folded, monkeypatch, cut):
    images = random_images(72)
    expected = embed(native_session(folded, 72), images)
    for name, value in cut.items():
        monkeypatch.setattr(native_plan, name, value)
    np.testing.assert_array_equal(embed(native_session(folded, 72), images), expected)


def with_gaps(program, gap=64):
    """Return a program whose places in the arena are apart, and the slices between them."""
    names = ("padded", "first", "second", "expanded", "deep", "zeros")
    plan = native_plan.Plan.from_buffer_copy(program.plan)
    starts = [getattr(plan, name) for name in names] + [program.arena]
    gaps, place = [slice(0, gap)], gap
    for name, start, end in zip(names, starts, starts[1:], strict=False):
        setattr(plan, name, place)
        place += end - start
        gaps.append(slice(place, place + gap))
        place += gap
    return replace(program, plan=plan, arena=place), gaps


@needs_native
@settings(max_examples=40)
@given(
    st.sampled_from(supported_lanes() or [0]),
    st.sampled_from([0.1, 0.35, 0.75, 1.3, 1.33]),
    st.integers(32, 140),
    st.integers(1, 300),
    st.integers(0, 300),
)
def test_nothing_is_written_outside_its_place(lanes, alpha, size, strip, whole):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_plan, "_STRIP", strip)
        patch.setattr(native_plan, "_WHOLE", whole)
        program, gaps = with_gaps(make_program(fold(random_weights(0, alpha)), size, lanes))
    session = NativeSession(program)
    for gap in gaps:
        session._arena[gap] = 123.0
    embed(session, random_images(size, 1))
    assert all((session._arena[gap] == 123.0).all() for gap in gaps)


@needs_native
def test_sessions_of_one_program_do_not_disturb_each_other(folded):
    program = make_program(folded, 64, chosen_lanes())
    images = random_images(64, 24)
    expected = embed(NativeSession(program), images)
    sessions = [NativeSession(program) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda number: embed(sessions[number], images[number::4]), range(4)))
    for number in range(4):
        np.testing.assert_array_equal(got[number], expected[number::4])


@needs_native
def test_an_image_leaves_no_trace_in_the_next_one(folded):
    session = native_session(folded, 64)
    white, noise = np.full((1, 64, 64, 3), 255, np.float32), random_images(64, 1)
    first = embed(session, noise)
    embed(session, white)
    np.testing.assert_array_equal(embed(session, noise), first)


@needs_native
def test_what_is_no_number_stays_so(folded):
    broken = dict(folded)
    broken["block_5_expand.bias"] = np.full_like(broken["block_5_expand.bias"], np.nan)
    for lanes in supported_lanes():
        assert np.isnan(embed(native_session(broken, 64, lanes), random_images(64, 1))).any()


@pytest.mark.skipif(len(supported_lanes()) < 2, reason="this processor has one width of vectors")
@pytest.mark.parametrize(
    ("alpha", "size"), [(0.1, 65), (0.35, 32), (0.5, 96), (0.75, 97), (1.33, 32), (1.4, 33), (1.0, 224)]
)
def test_all_widths_of_vectors_give_the_same_bits(alpha, size):
    folded, images = fold(random_weights(3, alpha)), random_images(size)
    first, *others = [embed(native_session(folded, size, lanes), images) for lanes in supported_lanes()]
    assert first.std() > 0.01
    for other in others:
        assert other.tobytes() == first.tobytes()


# runs kernels of any width on a program from a file
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "_kernels.h"
static void *part(void) {
    int64_t bytes;
    if (fread(&bytes, 8, 1, stdin) != 1) exit(1);
    void *data = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!data || fread(data, 1, bytes, stdin) != (size_t)bytes) exit(2);
    return data;
}
int main(void) {
    Plan *plan = part();
    void *blocks = part(), *weights = part(), *arena = part(), *pointers = part(), *image = part(), *features = part();
    EMBED(plan, blocks, weights, arena, pointers, image, features);
    return fwrite(features, 4, plan->features, stdout) != (size_t)plan->features;
}
"""
ENGINES = Path(native.__file__).parent
X86 = '-DTARGET=__attribute__((target("avx2,fma")))'
ARM = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
on_x86 = pytest.mark.skipif(
    8 not in supported_lanes() or not shutil.which("gcc") or platform.system() != "Linux",
    reason="this needs Linux, gcc and a processor with AVX2",
)
on_arm = pytest.mark.skipif(
    not all(ARM) or not supported_lanes(), reason="this needs gcc-aarch64-linux-gnu and qemu-user"
)


@pytest.mark.parametrize(
    ("lanes", "build", "run"),
    [
        pytest.param(16, ["gcc", X86], [], marks=on_x86, id="16 lanes for AVX2"),
        pytest.param(4, ["gcc", X86], [], marks=on_x86, id="4 lanes for AVX2"),
        pytest.param(4, [ARM[0], "-static", "-DTARGET="], [ARM[1]], marks=on_arm, id="NEON"),
    ],
)
def test_kernels_of_other_processors_give_the_same_bits(lanes, build, run, tmp_path):
    (tmp_path / "main.c").write_text(MAIN)
    options = [
        "-O1",
        "-fexpensive-optimizations",
        "-ffp-contract=fast",
        f"-I{ENGINES}",
        f"-DLANES={lanes}",
        f"-DEMBED=embedonce_embed_{lanes}",
    ]
    subprocess.run([*build, *options, tmp_path / "main.c", "-o", tmp_path / "main"], check=True)
    for alpha, size in ((0.1, 65), (0.35, 48), (0.75, 97), (1.4, 33)):
        folded, image = fold(random_weights(3, alpha)), random_images(size, 1)
        program = make_program(folded, size, lanes)
        plan = program.plan
        room = [bytes(4 * program.arena), bytes(8 * plan.pixels), image.tobytes(), bytes(4 * plan.features)]
        parts = [bytes(plan), bytes(program.blocks), program.weights.tobytes(), *room]
        data = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        done = subprocess.run([*run, tmp_path / "main"], input=data, stdout=subprocess.PIPE, check=True)
        features = np.frombuffer(done.stdout, np.float32)[: program.features]
        assert features.tobytes() == embed(native_session(folded, size), image).tobytes(), (alpha, size)


@pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang, which compiles for other systems, is not installed")
@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "aarch64-windows-gnu", "x86_64-macos", "aarch64-macos"])
def test_kernels_compile_for_other_systems(target, tmp_path):
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        target,
        "-O3",
        "-ffp-contract=fast",
        "-Wall",
        "-Werror",
    ]
    command += ["-DEMBEDONCE_NO_PYTHON", "-c", ENGINES / "_kernels.c", "-o", tmp_path / "kernels.o"]
    subprocess.run(command, check=True)


@needs_native
def test_the_environment_sets_the_width_of_vectors(monkeypatch):
    for lanes in supported_lanes():
        monkeypatch.setenv("EMBEDONCE_LANES", str(lanes))
        assert chosen_lanes() == lanes
    monkeypatch.setenv("EMBEDONCE_LANES", "")
    assert chosen_lanes() == max(supported_lanes())
    monkeypatch.setenv("EMBEDONCE_LANES", "5")
    with pytest.raises(ParameterError, match="EMBEDONCE_LANES must be one of .* on this processor, got '5'"):
        chosen_lanes()


def test_folding_equals_convolution_and_normalisation(backbone, folded):
    """One pixel of the first convolution, by hand."""
    kernel = np.asarray(backbone.get_layer("Conv1").weights[0], np.float64)
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in backbone.get_layer("bn_Conv1").weights)
    patch = np.random.RandomState(0).normal(size=(3, 3, 3))
    expected = (np.tensordot(patch, kernel, 3) - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(np.tensordot(patch, folded["Conv1.kernel"], 3) + folded["Conv1.bias"], expected, 1e-5)


def test_folded_weights_come_back_from_their_file(folded):
    again = from_bytes(to_bytes(folded))
    assert len(again) == 2 * len(kernel_shapes(0.35)) == 104
    for name, value in folded.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize("data", [b"", b"no archive", to_bytes({"Conv1.kernel": np.zeros(3, np.float32)})])
def test_something_else_is_refused_as_folded_weights(data):
    with pytest.raises(EngineError, match="the folded weights cannot be read"):
        from_bytes(data)


@given(st.sampled_from([8, 16]), st.integers(1, 150))
def test_panels_of_columns_fill_a_product_exactly(unit, units):
    columns = unit * units
    widths = column_widths(columns, unit)
    assert sum(widths) == sum(panel_widths(columns, 2 * unit)) == columns
    assert set(widths) <= {unit, 2 * unit, 3 * unit}
    assert unit not in widths or units == 1


@needs_native
def test_auto_depends_on_the_processor_threads_and_precision(monkeypatch):
    assert engines.chosen_engine(ComputeOptions("native"), "float32", 1.0) == "native"
    monkeypatch.delenv("EMBEDONCE_ENGINE")
    for fastest in ("native", "litert"):
        monkeypatch.setattr(engines, "remembered_engine", lambda alpha, fastest=fastest: fastest)
        assert engines.chosen_engine(ComputeOptions(), "float32", 1.0) == fastest
        assert engines.chosen_engine(ComputeOptions(threads=1), "float32", 1.0) == fastest
        assert engines.chosen_engine(ComputeOptions(threads=2), "float32", 1.0) == "litert"
        assert engines.chosen_engine(ComputeOptions(), "int8", 1.0) == "litert"
        assert engines.chosen_engine(ComputeOptions(), "bfloat16", 1.0) == "keras"


@needs_native
@pytest.mark.parametrize("preferred", ["native", "litert", "keras"])
def test_the_environment_sets_what_auto_chooses(monkeypatch, preferred):
    monkeypatch.setenv("EMBEDONCE_ENGINE", preferred)
    assert engines.chosen_engine(ComputeOptions(), "float32", 1.0) == preferred
    assert engines.chosen_engine(ComputeOptions("litert"), "float32", 1.0) == "litert"
    assert engines.chosen_engine(ComputeOptions(), "int8", 1.0) == "litert"
    assert engines.chosen_engine(ComputeOptions(threads=2), "float32", 1.0) != "native"
    monkeypatch.setenv("EMBEDONCE_ENGINE", "warp")
    with pytest.raises(ParameterError, match="EMBEDONCE_ENGINE must be one of native, litert, keras, got 'warp'"):
        engines.chosen_engine(ComputeOptions(), "float32", 1.0)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("spec", "were not compiled, because there was no C compiler"),
        ("processor", "AVX2"),
        ("file", "cannot be loaded"),
    ],
)
def test_without_kernels_auto_is_litert_and_native_an_error(images, tmp_path, small, monkeypatch, missing, reason):
    class Spec:
        origin = str(tmp_path / "nothing.so")

    class Library:
        def __init__(self, path):
            pass

        @staticmethod
        def embedonce_supported(lanes):
            return 0

    monkeypatch.delenv("EMBEDONCE_ENGINE")
    monkeypatch.setattr(native, "find_spec", lambda name: None if missing == "spec" else Spec)
    if missing == "processor":
        monkeypatch.setattr(native.ctypes, "CDLL", Library)
    native._library.cache_clear()
    try:
        cache = extract_features(images, tmp_path / "a.h5", **small)
        assert list(cache.provenance["engines"]) == ["litert"]
        with pytest.raises(
            EngineError, match=rf"the engine native cannot run here: .*{reason}.*\. Use --engine litert"
        ):
            extract_features(images, tmp_path / "b.h5", engine="native", **small)
    finally:
        monkeypatch.undo()
        native._library.cache_clear()


@needs_native
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_damaged_folded_weights_are_made_again_and_never_used(small, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    recipe = make_recipe(small["weights"], small["alpha"], small["image_size"])
    good = engines.prepare(recipe, "native").model
    file = store._path(recipe).with_suffix(".npz")
    if damage == "gone":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert store.load_prepared(recipe, "native") is None
    engines.make_engine("native", recipe)
    prepared = store.load_prepared(recipe, "native")
    assert prepared is not None
    for name, value in from_bytes(good).items():
        np.testing.assert_array_equal(from_bytes(prepared.model)[name], value)


@needs_native
def test_kernels_that_disagree_with_plain_numpy_are_refused(small, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    right = native_plan.make_program

    def wrong(folded, image_size, lanes):
        return right({**folded, "Conv_1.bias": folded["Conv_1.bias"] + 1}, image_size, lanes)

    monkeypatch.setattr(engines, "make_program", wrong)
    recipe = make_recipe(small["weights"], small["alpha"], small["image_size"])
    with pytest.raises(EngineError, match=r"the engine native differs from plain NumPy by .*\. Use another --engine"):
        engines.make_engine("native", recipe)
    assert store.load_prepared(recipe, "native") is None


@needs_native
def test_the_first_native_run_imports_no_tensorflow(images, small, tmp_path, python, cache_path):
    extract_features(images, tmp_path / "a.h5", engine="native", **small)
    code = (
        "import os, sys, embedonce\n"
        "os.environ['EMBEDONCE_HOME'] = sys.argv[3]\n"
        "embedonce.extract_features(sys.argv[1], sys.argv[2], weights='random:0', alpha=0.35, image_size=64, engine='native')\n"
        "print([name for name in ('tensorflow', 'ai_edge_litert') if name in sys.modules])\n"
    )
    assert python(code, images, tmp_path / "b.h5", tmp_path / "an empty home") == "[]\n"
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert "tensorflow" in sys.modules  # of this process, by the fixtures: the test can fail
