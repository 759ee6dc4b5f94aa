"""Inference engines: native, LiteRT and Keras behind one protocol.

`make_engine` prepares an engine for a recipe and `chosen_engine` says which one `auto` is. A converted backbone is
checked against its reference before it is used, and kept in the user's cache folder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
