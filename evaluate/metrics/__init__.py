"""Scores, confidence intervals, paired tests and calibration, from arrays of labels, predictions and groups."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
