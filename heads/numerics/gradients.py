"""Gradients of an RBF machine's log scores with respect to its features, in closed form."""

from __future__ import annotations

import numpy as np

from .scores import Array


def margins_and_gradients(
    row: Array, vectors: Array, coefficients: Array, intercept: Array, gamma: float
) -> tuple[Array, Array]:
    """Return margins (p,) sum_s c_sp exp(-gamma |u - v_s|^2) + b_p of one row u, and their gradients (d, p)."""
    offsets = vectors.astype(np.float64) - row
    parts = np.exp(-gamma * np.einsum("sd,sd->s", offsets, offsets))[:, None] * coefficients
    return parts.sum(axis=0) + intercept, 2.0 * gamma * (offsets.T @ parts)


def pair_log_score_slopes(margins: Array, n_classes: int, inverse_temperature: float) -> Array:
    """Return the derivatives (pairs, k) of `pair_log_scores` by the margins (pairs,) of one row, float64."""
    from scipy.special import expit

    first, second = np.triu_indices(n_classes, 1)
    pairs = np.arange(len(margins))
    slopes = np.zeros((len(margins), n_classes))
    # d/dm log 1 / (1 + exp(-a m)) = a / (1 + exp(a m))
    slopes[pairs, first] = inverse_temperature * expit(-inverse_temperature * margins)
    slopes[pairs, second] = -inverse_temperature * expit(inverse_temperature * margins)
    return slopes
