"""Feature caches on disk, one HDF5 file or a folder of shards (docs/FORMAT.md): writer, reader and verification."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
