"""The frozen MobileNetV2 in Keras. Everything here needs TensorFlow, and imports it when called."""

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
    """Build the frozen convolutional base.

    Parameters
    ----------
    source : WeightsSource
    alpha : float
        Width multiplier.
    image_size : int
        Height and width of the input, in pixels.
    dtype : str
        Keras's policy for the layers: ``float32``, ``mixed_float16`` or ``mixed_bfloat16``. The weights are float32
        in all of them.

    Returns
    -------
    keras.Model
        Named ``mobilenetv2``; images of shape (b, image_size, image_size, 3), scaled to -1 to 1, in;
        feature maps (b, h, w, d) out. Not trainable.

    Raises
    ------
    WeightsError
        When the weights do not fit.
    """
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
        for variable in backbone.weights:  # to see afterwards whether each was really loaded
            variable.assign(np.full(variable.shape, np.nan, np.float32))
        try:
            if zipfile.is_zipfile(source.path) or source.path.suffix == ".keras":
                _copy_from_model(keras, source.path, backbone)
            else:
                with warnings.catch_warnings():  # Keras 3.15 warns of hundreds of containers that hold nothing
                    warnings.simplefilter("ignore")
                    backbone.load_weights(source.path)
        except WeightsError:
            raise
        except Exception as error:  # Keras, h5py and zipfile raise what they like
            raise WeightsError(
                f"the weights file {display(str(source.path))} does not fit MobileNetV2 with alpha {alpha}: "
                f"{first_line(error)[:200]}; "
                "give the --alpha that it was trained with, or another file"
            ) from error
        _require_all_loaded(source.path, backbone)
    backbone.trainable = False
    return backbone


@contextlib.contextmanager
def _policy(keras: Any, dtype: str) -> Iterator[None]:
    """Let the layers that are made meanwhile have a policy of their own; keras.applications takes none."""
    users = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(users)


def _require_all_loaded(path: Path, backbone: Any) -> None:
    """Refuse weights that are missing or not finite: Keras leaves out what a file does not have, with a warning."""
    for variable in backbone.weights:
        if not np.isfinite(np.asarray(variable)).all():
            raise WeightsError(
                f"the weights file {display(str(path))} has no usable values for {variable.path} of MobileNetV2; "
                "give another file"
            )


def build_embedder(backbone: Any) -> Any:
    """Wrap a backbone into the whole way from pixels to features.

    Returns
    -------
    keras.Model
        float32 images (b, s, s, 3), 0 to 255, in; pooled float32 features (b, d) out.
    """
    keras = import_keras()
    image = keras.Input(backbone.input_shape[1:], name="image")
    return keras.Model(image, pooled_features(backbone, image), name="embedder")


def pooled_features(backbone: Any, image: Any) -> Any:
    """Put scaling, backbone and pooling behind a symbolic image of 0 to 255.

    The scaling is ``mobilenet_v2.preprocess_input`` as a layer that every Keras can load. Both are float32 whatever
    the backbone is: a mean over float16 would lose what its summands have.
    """
    layers = import_keras().layers
    maps = backbone(_scaled(image), training=False)
    return layers.GlobalAveragePooling2D(name="pooling", dtype="float32")(maps)


def feature_map(backbone: Any, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what global average pooling takes the mean of.

    Parameters
    ----------
    backbone : keras.Model
    image : ndarray of float32, shape (s, s, 3)
        0 to 255, of the backbone's size.

    Returns
    -------
    ndarray of float32, shape (h, w, d)
        The last feature map: 7 x 7 places for images of 224 pixels.
    """
    maps = backbone(_scaled(image[None]), training=False)
    places: npt.NDArray[np.float32] = np.asarray(maps, np.float32)[0]
    return places


def _scaled(image: Any) -> Any:
    return import_keras().layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling", dtype="float32")(image)


def weights_of(backbone: Any) -> Weights:
    """Return the weights of a backbone as arrays, also of one inside a larger model."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable) for layer in backbone.layers for variable in layer.weights
    }


def _copy_from_model(keras: Any, path: Path, backbone: Any) -> None:
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    found = _find_mobilenet(model)
    if found is None:
        raise WeightsError(f"the saved model {display(str(path))} contains no MobileNetV2")
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(found.get_layer(layer.name).get_weights())


def _find_mobilenet(model: Any) -> Any:
    layers = getattr(model, "layers", [])
    names = {layer.name for layer in layers}
    if {"Conv1", "Conv_1", "block_16_project"} <= names:
        return model
    return next((found for layer in layers if (found := _find_mobilenet(layer)) is not None), None)
