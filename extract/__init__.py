"""Images to features: scanning, decoding, embedding, the extraction run, and checks of cache and machine."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
