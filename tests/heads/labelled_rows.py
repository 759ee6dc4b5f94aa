"""Rows of a few classes that overlap, in features of very different sizes."""

from __future__ import annotations

import numpy as np


def labelled_rows(classes, n, d, seed=0):
    """Return features, float32 of shape (n, d), and labels "class 0", "class 1" and so on, shape (n,)."""
    generator = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    centres = generator.normal(size=(classes, d))
    X = (centres[codes] + 1.5 * generator.normal(size=(n, d))).astype(np.float32)
    X[:, 3] = 2.0  # a feature that never changes has no standard deviation
    return X * np.linspace(0.1, 5, d, dtype=np.float32), np.array([f"class {code}" for code in codes])
