"""Model files of heads: writing, reading (running code only from trusted files), and export as Keras layers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
