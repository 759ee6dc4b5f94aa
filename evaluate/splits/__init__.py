"""Splits into training and test images, folds, groups given by the user, and split files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
