"""The frozen MobileNetV2 in Keras. Imports TensorFlow when called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
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
    for variable in backbone.weights:
        variable.assign(weights[variable.path])
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
