"""The LiteRT engine: one image at a time, which gives the same bits for every number of workers and resumed runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import quiet_native_output
from ...errors import EngineError, first_line


class Interpreter:
    """A converted backbone for one calling thread; ``threads`` share the work of a layer and change no bit."""

    batch_size = 1

    def __init__(self, model: bytes, threads: int = 1) -> None:
        self._interpreter = open_interpreter(model, threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def slot(self, position: int) -> npt.NDArray[np.float32]:
        """Return the input tensor. LiteRT refuses to run while a reference to it exists."""
        view: npt.NDArray[np.float32] = self._interpreter.tensor(self._input)()[position]
        return view

    def run(self, count: int) -> npt.NDArray[np.float32]:
        """Embed the image in the slot: float32, shape (1, d)."""
        self._interpreter.invoke()
        features: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return features


def open_interpreter(model: bytes, threads: int = 1) -> Any:
    """Return LiteRT's interpreter of a model, with its tensors allocated."""
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError as error:
        raise EngineError(
            f"the engine litert cannot be imported ({first_line(error)}). Install ai-edge-litert, or use --engine keras"
        ) from error
    try:
        with quiet_native_output():
            interpreter: Any = litert.Interpreter(model_content=model, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"LiteRT cannot run the converted model: {first_line(error)}. Use --engine keras") from error
    return interpreter
