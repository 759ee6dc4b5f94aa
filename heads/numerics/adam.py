"""Dropout, one dense softmax layer and Adam as in Keras, but in NumPy: ``model.fit`` adds milliseconds to each step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Keras's defaults of Adam
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
# Keras's bound on probabilities in the cross-entropy
SMALLEST = 1e-7


class Measured(NamedTuple):
    """Sums over some rows."""

    loss: float
    correct: int


class DenseSoftmax:
    """Dense softmax layer in training: one call of `step` for each batch; `kernel` (d, k), float32, is copied."""

    def __init__(self, kernel: Floats, dropout: float, learning_rate: float, masks: np.random.Generator) -> None:
        # the last row of the parameters is the bias, so that Adam's update is one pass
        self._parameters = np.concatenate([kernel, np.zeros((1, kernel.shape[1]), np.float32)])
        self._means = np.zeros_like(self._parameters)
        self._squares = np.zeros_like(self._parameters)
        self._gradient = np.empty_like(self._parameters)
        self._dropped = min(round(dropout * 65536), 65535)  # of 65,536: two random bytes a feature
        self._scale = np.float32(1 / (1 - dropout))
        self._rate = learning_rate
        self._masks = masks
        self._steps = 0

    @property
    def kernel(self) -> Floats:
        """Weights of shape (d, k)."""
        return self._parameters[:-1]

    @property
    def bias(self) -> Floats:
        """Bias of shape (k,)."""
        bias: Floats = self._parameters[-1]
        return bias

    def measure(self, rows: Floats, codes: NDArray[np.intp], weights: Floats | None = None) -> Measured:
        """Return weighted loss and correct predictions, without dropout, of rows (n, d) of the classes codes (n,)."""
        probabilities = self._probabilities(rows)
        losses = _losses(probabilities, codes)
        if weights is not None:
            losses *= weights
        return _measured(losses, probabilities, codes)

    def step(self, rows: Floats, codes: NDArray[np.intp], weights: Floats | None) -> Measured:
        """Take one step of Adam on the weighted mean cross-entropy of a batch, whose rows (b, d) dropout overwrites.

        Returns the loss and correct predictions before the update, with dropout.
        """
        if self._dropped:
            np.multiply(rows, _two_bytes_each(self._masks, rows.shape) >= self._dropped, out=rows)
            rows *= self._scale
        probabilities = self._probabilities(rows)
        losses = _losses(probabilities, codes)
        if weights is not None:
            losses *= weights
        measured = _measured(losses, probabilities, codes)
        slope = probabilities
        slope[np.arange(len(rows)), codes] -= 1
        slope /= len(rows)
        if weights is not None:
            slope *= weights[:, None]
        np.matmul(rows.T, slope, out=self._gradient[:-1])
        slope.sum(axis=0, out=self._gradient[-1])
        self._update()
        return measured

    def _probabilities(self, rows: Floats) -> Floats:
        """Return the softmax (n, k) of the rows' logits."""
        logits: Floats = rows @ self.kernel
        logits += self.bias
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def _update(self) -> None:
        """Apply Adam (Kingma and Ba, 2015, arXiv:1412.6980, the faster form at the end of section 2), as Keras does."""
        self._steps += 1
        rate = self._rate * float(np.sqrt(1 - BETA_2**self._steps)) / (1 - BETA_1**self._steps)
        self._means += (self._gradient - self._means) * np.float32(1 - BETA_1)
        self._squares += (np.square(self._gradient) - self._squares) * np.float32(1 - BETA_2)
        self._parameters -= np.float32(rate) * self._means / (np.sqrt(self._squares) + np.float32(EPSILON))


def _two_bytes_each(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Return what ``generator.bytes`` would, in a third of its time for the usual numbers of features."""
    if shape[1] % 4:
        return np.frombuffer(generator.bytes(2 * shape[0] * shape[1]), "<u2").reshape(shape)
    raw = generator.bit_generator.random_raw(shape[0] * shape[1] // 4).astype("<u8", copy=False)
    return raw.view("<u2").reshape(shape)


def _losses(probabilities: Floats, codes: NDArray[np.intp]) -> Floats:
    """Return the cross-entropy of each row, bounded as in Keras."""
    losses: Floats = -np.log(np.maximum(probabilities[np.arange(len(codes)), codes], SMALLEST))
    return losses


def _measured(losses: Floats, probabilities: Floats, codes: NDArray[np.intp]) -> Measured:
    return Measured(float(losses.sum(dtype=np.float64)), int(np.count_nonzero(probabilities.argmax(axis=1) == codes)))


def glorot_uniform(d: int, k: int, generator: np.random.Generator) -> Floats:
    """Return Keras's initial weights (d, k): uniform within sqrt(6 / (d + k)) (Glorot and Bengio 2010, eq. 16)."""
    limit = float(np.sqrt(6 / (d + k)))
    return generator.uniform(-limit, limit, (d, k)).astype(np.float32)
