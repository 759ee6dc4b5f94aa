"""The frozen MobileNetV2 in Keras. Imports TensorFlow when called."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from ...cache import display
from ...errors import WeightsError, first_line
from .architecture import Weights
from .read_h5 import weights_from
from .resolve import WeightsSource


def build_backbone(source: WeightsSource, alpha: float, image_size: int, dtype: str = "float32") -> Any:
    """Build the frozen base ``mobilenetv2``, from images (b, s, s, 3), -1 to 1, to feature maps (b, h, w, d)."""
    # dtype is Keras's policy for the layers: float32, mixed_float16 or mixed_bfloat16; weights are float32
    keras = import_keras()
    shape = (image_size, image_size, 3)
    with _policy(keras, dtype):
        backbone = keras.applications.MobileNetV2(
            input_shape=shape, alpha=alpha, include_top=False, weights=None, name="mobilenetv2"
        )
    weights = weights_from(source, alpha)
    if weights is not None:
        for variable in backbone.weights:
            variable.assign(weights[variable.path])
    else:
        assert source.path is not None
        for variable in backbone.weights:  # to detect variables that are not loaded
            variable.assign(np.full(variable.shape, np.nan, np.float32))
        try:
            if zipfile.is_zipfile(source.path) or source.path.suffix == ".keras":
                _copy_from_model(keras, source.path, backbone)
            else:
                with warnings.catch_warnings():  # Keras 3.15 warns of hundreds of empty containers
                    warnings.simplefilter("ignore")
                    backbone.load_weights(source.path)
        except WeightsError:
            raise
        except Exception as error:  # Keras, h5py and zipfile raise many types
            raise WeightsError(
                f"the weights file {display(str(source.path))} does not fit MobileNetV2 with alpha {alpha}: "
                f"{first_line(error)[:200]}. Give the --alpha that it was trained with, or another file"
            ) from error
        _require_all_loaded(source.path, backbone)
    backbone.trainable = False
    return backbone


@contextlib.contextmanager
def _policy(keras: Any, dtype: str) -> Iterator[None]:
    """Set the policy of layers made in this context, because keras.applications has no parameter for it."""
    users = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(users)


def _require_all_loaded(path: Path, backbone: Any) -> None:
    """Raise WeightsError for weights that are missing or not finite: Keras only warns about missing ones."""
    for variable in backbone.weights:
        if not np.isfinite(np.asarray(variable)).all():
            raise WeightsError(
                f"the weights file {display(str(path))} has no usable values for {variable.path} of MobileNetV2. "
                "Give another file"
            )


def build_embedder(backbone: Any) -> Any:
    """Return a keras.Model from float32 images (b, s, s, 3), 0 to 255, to pooled float32 features (b, d)."""
    keras = import_keras()
    image = keras.Input(backbone.input_shape[1:], name="image")
    return keras.Model(image, pooled_features(backbone, image), name="embedder")


def pooled_features(backbone: Any, image: Any) -> Any:
    """Return the symbolic features of a symbolic image, 0 to 255: scaling, backbone and pooling."""
    # scaling and pooling are always float32, because a mean over float16 would lose precision
    layers = import_keras().layers
    maps = backbone(_scaled(image), training=False)
    return layers.GlobalAveragePooling2D(name="pooling", dtype="float32")(maps)


def feature_map(backbone: Any, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the last feature map (h, w, d) of an image (s, s, 3), 0 to 255; the features are its mean."""
    maps = backbone(_scaled(image[None]), training=False)
    feature_map: npt.NDArray[np.float32] = np.asarray(maps, np.float32)[0]
    return feature_map


def _scaled(image: Any) -> Any:
    return import_keras().layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling", dtype="float32")(image)


def weights_of(backbone: Any) -> Weights:
    """Return the weights of a backbone as arrays; it may be part of a larger model."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable) for layer in backbone.layers for variable in layer.weights
    }


def _copy_from_model(keras: Any, path: Path, backbone: Any) -> None:
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    mobilenet = _find_mobilenet(model)
    if mobilenet is None:
        raise WeightsError(f"the saved model {display(str(path))} contains no MobileNetV2")
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(mobilenet.get_layer(layer.name).get_weights())


def _find_mobilenet(model: Any) -> Any:
    layers = getattr(model, "layers", [])
    names = {layer.name for layer in layers}
    if {"Conv1", "Conv_1", "block_16_project"} <= names:
        return model
    return next((part for layer in layers if (part := _find_mobilenet(layer)) is not None), None)
