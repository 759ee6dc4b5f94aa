"""Numerical methods of the heads, on arrays: Adam, L-BFGS, the RBF kernel, the Nystroem map and scores."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
