"""Import Keras as embedonce needs it, without the start-up messages of TensorFlow and LiteRT."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from .errors import EngineError, MissingPackageError, first_line

# two threads that silence the process at once would undo it for each other, or leave it silent
_silence = threading.RLock()


_SETTINGS = {"backend": "tensorflow", "floatx": "float32", "image_data_format": "channels_last"}


def import_keras() -> Any:
    """Import Keras on TensorFlow, without start-up messages and with default settings instead of those of keras.json.

    Settings of a Keras that was imported before are the user's: EngineError if the backbone cannot work with them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silence:
        if "keras" not in sys.modules:
            os.environ["KERAS_BACKEND"] = "tensorflow"
            try:
                with quiet_native_output():
                    import keras
                    import tensorflow as tf

                    tf.config.list_physical_devices()  # prints its messages now
            except Exception as error:
                raise MissingPackageError(
                    f"this needs Keras and TensorFlow, which cannot be imported ({first_line(error)}). "
                    "Install them with: pip install --upgrade keras tensorflow"
                ) from error
            keras.config.set_floatx(_SETTINGS["floatx"])
            keras.config.set_image_data_format(_SETTINGS["image_data_format"])
    import keras

    for name, needed in _SETTINGS.items():
        found = getattr(keras.config, name)()
        if found != needed:
            advice = f"Call keras.config.set_{name}({needed!r})" if name != "backend" else f"Set KERAS_BACKEND={needed}"
            raise EngineError(
                f"setting {name} of Keras must be {needed!r}, got {found!r}. {advice} before embedonce is used"
            )
    return keras


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Discard what native code writes to standard output and error before its own logging is set up.

    Output of other Python threads is lost too, so this is only for short calls. Threads take turns.
    """
    with _silence:
        _flush()
        sink = os.open(os.devnull, os.O_WRONLY)
        # a stream that was closed before Python started is None, and its number may be that of any other file
        streams = ((1, sys.stdout), (2, sys.stderr))
        saved = [(number, os.dup(number)) for number, stream in streams if stream is not None]
        try:
            for number, _ in saved:
                os.dup2(sink, number)
            yield
        finally:
            _flush()
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
            os.close(sink)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
