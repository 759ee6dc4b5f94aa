"""Numerical methods of the heads: Adam, L-BFGS, the RBF kernel, the Nystroem map and scores.

Functions of arrays; nothing here knows estimators or files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
