from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.metrics import Sample, interval_of_difference, unpaired_p


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_unpaired_p_holds_its_level_on_groups(metric):
    generator, rejected = np.random.default_rng(0), 0
    for _ in range(60):
        samples = []
        for _ in range(2):
            groups = np.repeat(np.arange(60), 5)
            correct = generator.random(300) < generator.beta(8, 2, 60)[groups]
            samples.append(Sample(correct, groups % 2, groups))
        rejected += unpaired_p(*samples, metric) < 0.05
    assert rejected <= 8


def test_interval_of_difference_follows_from_both_intervals():
    assert interval_of_difference(0.9, (0.8, 0.95), 0.5, (0.5, 0.5)) == pytest.approx((0.3, 0.45))
    correct = np.arange(100) < 90
    one = Sample(correct, np.zeros(100, int), None)
    assert unpaired_p(one, one, "accuracy") == pytest.approx(1, abs=1e-3)
    assert unpaired_p(one, Sample(~correct, one.classes, None), "accuracy") == 1e-4
