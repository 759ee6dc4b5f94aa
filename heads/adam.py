"""Dropout, one dense softmax layer and Adam, as Keras has them, in NumPy.

A training step on 100 x 1280 features is microseconds of arithmetic; ``model.fit`` spends milliseconds around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Keras's defaults of Adam
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
# Keras's bound on probabilities in the cross-entropy
SMALLEST = 1e-7


class Step(NamedTuple):
    """What one training step measured: sums over its rows, before its update."""

    loss: float
    correct: int


class DenseSoftmax:
    """A dense softmax layer in training: one call of `step` for each batch.

    Parameters
    ----------
    kernel : ndarray of shape (d, k), float32
        Initial weights; trained in place.
    dropout : float
        Share of the features that are set to 0, the others divided by 1 minus that (Keras's ``Dropout``).
    learning_rate : float
        Adam's.
    masks : numpy.random.Generator
        What is dropped.
    """

    def __init__(self, kernel: Floats, dropout: float, learning_rate: float, masks: np.random.Generator) -> None:
        # the last column of the parameters is the bias, so that Adam's update is one pass
        self._d = len(kernel)
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
        """The weights, shape (d, k)."""
        return self._parameters[:-1]

    @property
    def bias(self) -> Floats:
        """The bias, shape (k,)."""
        bias: Floats = self._parameters[-1]
        return bias

    def step(self, rows: Floats, codes: NDArray[np.intp], weights: Floats | None) -> Step:
        """Take one step of Adam on the mean cross-entropy of a batch.

        Parameters
        ----------
        rows : ndarray of shape (b, d), float32
            The batch's features, which dropout overwrites.
        codes : ndarray of shape (b,), intp
            Class indices.
        weights : ndarray of shape (b,), float32, optional
            Of the rows in the loss.
        """
        if self._dropped:
            drawn = np.frombuffer(self._masks.bytes(2 * rows.size), "<u2").reshape(rows.shape)
            np.multiply(rows, drawn >= self._dropped, out=rows)
            rows *= self._scale
        logits = rows @ self.kernel
        logits += self.bias
        shares = softmax_rows(logits)
        at_truth = (np.arange(len(rows)), codes)
        losses = -np.log(np.maximum(shares[at_truth], SMALLEST))
        correct = int(np.count_nonzero(shares.argmax(axis=1) == codes))
        slope = shares
        slope[at_truth] -= 1
        slope /= len(rows)
        if weights is not None:
            slope *= weights[:, None]
            losses *= weights
        np.matmul(rows.T, slope, out=self._gradient[:-1])
        slope.sum(axis=0, out=self._gradient[-1])
        self._update()
        return Step(float(losses.sum(dtype=np.float64)), correct)

    def _update(self) -> None:
        """Adam (Kingma and Ba, 2015, arXiv:1412.6980, the faster form that ends section 2), as in Keras."""
        self._steps += 1
        rate = self._rate * float(np.sqrt(1 - BETA_2**self._steps)) / (1 - BETA_1**self._steps)
        self._means += (self._gradient - self._means) * np.float32(1 - BETA_1)
        self._squares += (np.square(self._gradient) - self._squares) * np.float32(1 - BETA_2)
        self._parameters -= np.float32(rate) * self._means / (np.sqrt(self._squares) + np.float32(EPSILON))


def softmax_rows(logits: Floats) -> Floats:
    """Return exp(z_j) / sum_i exp(z_i) of each row, in place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def glorot_uniform(d: int, k: int, generator: np.random.Generator) -> Floats:
    """Return Keras's initial weights of a dense layer: uniform within sqrt(6 / (d + k)).

    Glorot and Bengio (2010), equation 16. Shape (d, k), float32.
    """
    limit = float(np.sqrt(6 / (d + k)))
    return generator.uniform(-limit, limit, (d, k)).astype(np.float32)


def train_dense(
    layer: DenseSoftmax,
    batches: Callable[[], Any],
    epochs: int,
    after_epoch: Callable[[], dict[str, float]],
) -> dict[str, list[float]]:
    """Train for some epochs and return the history of each.

    Parameters
    ----------
    layer : DenseSoftmax
    batches : callable
        ``batches()`` yields one epoch's (features, codes, weights or None).
    epochs : int
    after_epoch : callable
        Returns further values of the epoch's history.

    Returns
    -------
    dict of str to list of float
        "loss" and "accuracy", averaged over the rows of the epoch's steps, and what `after_epoch` gave.
    """
    history: dict[str, list[float]] = {"accuracy": [], "loss": []}
    for _ in range(epochs):
        loss, correct, count = 0.0, 0, 0
        for rows, codes, weights in batches():
            step = layer.step(rows, codes, weights)
            loss, correct, count = loss + step.loss, correct + step.correct, count + len(rows)
        values = {"accuracy": correct / count, "loss": loss / count, **after_epoch()}
        for name, value in values.items():
            history.setdefault(name, []).append(value)
    return history
