"""Keep native start-up messages of TensorFlow and LiteRT off the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

# two threads that silence the process at once would undo it for each other, or leave it silent
_silence = threading.RLock()


def import_keras() -> Any:
    """Import Keras on TensorFlow without start-up messages, for extract and heads, which never import each other."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _silence:
        if "keras" not in sys.modules:
            with quiet_native_output():
                import keras
                import tensorflow as tf

                tf.config.list_physical_devices()  # prints its messages now
    import keras

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
