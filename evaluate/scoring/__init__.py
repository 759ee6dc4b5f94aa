"""Fit and score heads on splits: results, tables, and jobs in this process, in others, or on a Dask cluster."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
