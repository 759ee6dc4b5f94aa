"""Scores, confidence intervals, paired tests and calibration.

Functions of arrays of labels, predictions, probabilities and groups. `score` computes every metric, `score_intervals`
its intervals, and `compare_pair` the test of a difference (McNemar, or sign flips of groups).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
