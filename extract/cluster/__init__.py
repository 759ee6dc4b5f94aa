"""Extraction on a Dask cluster: the coordinator and the workers.

`embed_on_cluster` sends slices of images to workers, which write segments that the coordinator publishes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
