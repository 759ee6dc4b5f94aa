"""Comparison of heads: compare, learning curve, configuration files, the demo, and scores that must be reached."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
