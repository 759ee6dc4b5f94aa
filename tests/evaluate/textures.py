"""Pictures for tests of near-duplicates: textures, and their augmented variants."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 28
LARGE = 8 * SIDE
SCALES = (4, 8, 16, 32)  # pixels of the large picture


def texture(number):
    """Return a large picture with structure of several sizes: float64, (224, 224)."""
    generator = np.random.default_rng([7, number])
    picture = np.zeros((LARGE, LARGE))
    for scale in SCALES:
        layer = ndimage.gaussian_filter(generator.normal(size=(LARGE, LARGE)), scale, mode="wrap")
        picture += layer / layer.std()
    return (128 + 40 * picture / picture.std()).clip(0, 255)


def view(picture, angle=0.0, zoom=1.0, stretch=1.0, centre=(0.0, 0.0), mirror=False):
    """Return a part of a picture at the size of the whole.

    ``angle`` in degrees; a rotation is cropped so far that no corner is empty. ``centre`` is moved by so many parts of
    a side. ``stretch`` makes the picture that many times wider.
    """
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = np.array([[cosine, sine], [-sine, cosine]]) / (abs(cosine) + abs(sine)) / zoom  # rows, columns
    matrix = matrix @ np.diag([1, 1 / stretch])
    middle = np.full(2, (LARGE - 1) / 2)
    moved = ndimage.affine_transform(
        picture, matrix, middle + np.array(centre) * LARGE - matrix @ middle, order=1, mode="reflect"
    )
    return moved[:, ::-1] if mirror else moved


def crop(picture, fraction, corner=(0.0, 0.0)):
    """Return a crop of a fraction of each side; ``corner`` is 0 for the upper left and 1 for the lower right."""
    room = (1 - fraction) / 2
    return view(picture, zoom=1 / fraction, centre=((2 * corner[0] - 1) * room, (2 * corner[1] - 1) * room))


def jpeg(picture, quality):
    """Return a picture after JPEG compression."""
    file = io.BytesIO()
    Image.fromarray(picture.round().clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), float)


def thumbnail(picture):
    """Return the signature of a picture: uint8, (784,)."""
    small = picture.reshape(SIDE, LARGE // SIDE, SIDE, LARGE // SIDE).mean((1, 3))
    return small.round().clip(0, 255).astype(np.uint8).ravel()


def variants(picture, number):
    """Return eight near-duplicates of a picture, as augmentation makes them; each number gives others."""
    generator = np.random.default_rng([11, number])
    angle, other = generator.uniform(5, 25, 2)
    return [
        view(picture, angle),
        view(picture, -other),
        picture[:, ::-1],
        np.rot90(picture[::-1], generator.integers(4)),
        view(picture, zoom=generator.uniform(1.1, 1.4)),
        crop(picture, 0.8, generator.uniform(0, 1, 2)),
        jpeg(picture, 30),
        picture * generator.uniform(0.8, 1.2),
    ]


def features_of(originals, noise=0.5):
    """Return features that a good backbone could give: near for the near-duplicates of an original, far for others."""
    generator = np.random.default_rng(17)
    centres = generator.normal(size=(int(np.max(originals, initial=0)) + 1, 32))
    return (centres[originals] + generator.normal(0, noise, (len(originals), 32))).astype(np.float32)


class Rows:
    """Features as a search for neighbours reads them."""

    def __init__(self, features):
        self.features = np.asarray(features, np.float32)
        self.shape = self.features.shape

    def __len__(self):
        return len(self.features)

    def __getitem__(self, rows):
        return self.features[rows]
