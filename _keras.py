"""Keeping TensorFlow's and LiteRT's native start-up messages off the user's terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

# two threads that silence the process at once would each undo it for the other, or leave it silent for good
_silence = threading.RLock()


def import_keras() -> Any:
    """Import Keras on TensorFlow without start-up messages, and return it.

    It stands here because extract and heads both need it and never import each other; importing this
    module imports no TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _silence:
        if "keras" not in sys.modules:
            with quiet_native_output():
                import keras
                import tensorflow as tf

                tf.config.list_physical_devices()  # says what it has to say now
    import keras

    return keras


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Send what native code writes to standard output and error to nowhere.

    The messages come from C++ before its own logging is set up, so no setting silences them. Exceptions
    pass as always; what Python writes meanwhile from another thread is lost, so this is for the short calls
    that import, convert and load. Threads take turns.
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
