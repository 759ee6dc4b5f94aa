"""Model files of heads: writing, reading, and export as Keras layers.

`save_head` and `load_head` write and read a fitted head; `read_metadata` returns what is kept with it. Loading runs no
code unless the caller trusts the file.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
