"""The cost of the backbone."""

from __future__ import annotations

import pytest
from embedonce.extract.backbone import multiply_accumulates

# million multiply-accumulates that the authors of MobileNetV2 published, with the classifier of 1,000 classes
PUBLISHED = {(1.0, 224): 300, (0.35, 224): 59, (0.35, 96): 11, (1.4, 224): 582, (0.5, 160): 50, (0.75, 128): 69}


@pytest.mark.parametrize(("alpha", "size"), PUBLISHED)
def test_multiply_accumulates_are_the_published_ones(alpha, size):
    classifier = 1000 * (1792 if alpha > 1 else 1280)
    whole = multiply_accumulates(alpha, size) + classifier
    assert whole / 1e6 == pytest.approx(PUBLISHED[alpha, size], abs=1)


def test_multiply_accumulates_are_those_of_the_shapes():
    # one pixel is left of 32 x 32 after five strides of 2; an odd size is rounded up
    assert multiply_accumulates(0.35, 33) > multiply_accumulates(0.35, 32) > multiply_accumulates(0.35, 31) // 2
