"""The LiteRT engine: one interpreter of one thread per worker, one image at a time.

One image at a time gives the same bits whatever the number of workers or the point of resume, and keeps
a layer's activations in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import EngineError
from ..cache.quiet import quiet_native_output


class Interpreter:
    """A converted backbone, ready to run in one thread.

    Parameters
    ----------
    model : bytes
        LiteRT model, float32 (1, s, s, 3) to float32 (1, d).

    Raises
    ------
    EngineError
        When LiteRT is not installed or refuses the model.
    """

    batch_size = 1

    def __init__(self, model: bytes) -> None:
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise EngineError(
                f"the engine litert cannot be imported ({error}); install ai-edge-litert, or use --engine keras"
            ) from error
        try:
            with quiet_native_output():
                self._interpreter: Any = litert.Interpreter(model_content=model, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT cannot run the converted model: {error}; use --engine keras") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embed images.

        Parameters
        ----------
        images : ndarray of float32, shape (b, s, s, 3)
            0 to 255.

        Returns
        -------
        ndarray of float32, shape (b, d)
        """
        rows = []
        for image in images:
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(self._output)[0])
        return np.stack(rows)
