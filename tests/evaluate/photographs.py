"""Photographs for tests of near-duplicates: tiles of scikit-learn's two, and their augmented variants."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

TILE = 96
KINDS = ("rotated", "mirrored", "cropped off the centre", "recompressed", "brighter")


def tiles():
    """Return the tiles of scikit-learn's photograph of a temple that are not mostly sky: uint8, (96, 96, 3)."""
    from sklearn.datasets import load_sample_image

    picture = load_sample_image("china.jpg")
    height, width = picture.shape[0] // TILE, picture.shape[1] // TILE
    parts = picture[: height * TILE, : width * TILE].reshape(height, TILE, width, TILE, 3).swapaxes(1, 2)
    parts = parts.reshape(-1, TILE, TILE, 3)
    blocks = parts.mean(3).reshape(-1, TILE // 8, 8, TILE // 8, 8).std((2, 4))
    textured = list(parts[(blocks > 5).mean((1, 2)) > 0.6])
    assert len(textured) >= 12
    return textured


def rotated(tile, angle):
    """Return a rotated tile, cropped so far that no corner is empty."""
    radians = np.deg2rad(abs(angle))
    edge = (TILE - TILE / (np.cos(radians) + np.sin(radians))) / 2
    whole = Image.fromarray(tile).rotate(angle, Image.Resampling.BICUBIC)
    return np.asarray(whole.resize((TILE, TILE), Image.Resampling.BICUBIC, box=(edge, edge, TILE - edge, TILE - edge)))


def variants(tile, number):
    """Return a near-duplicate of each of ``KINDS``; each number gives others."""
    generator = np.random.default_rng([13, number])
    left, top = generator.integers(0, TILE // 5, 2)
    inner = TILE * 4 // 5
    cropped = Image.fromarray(tile[top : top + inner, left : left + inner])
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "JPEG", quality=50)
    return [
        rotated(tile, generator.uniform(5, 25)),
        tile[:, ::-1],
        np.asarray(cropped.resize((TILE, TILE), Image.Resampling.BICUBIC)),
        np.asarray(Image.open(file).convert("RGB")),
        (tile * 0.8).astype(np.uint8),
    ]
