"""Features to classes: scikit-learn classifiers and their registry (`make_head`, `HEADS`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
