"""Fit and score one head on one split; results, and parallel jobs.

`fit_and_score` returns a `HeadResult`; `run_jobs` runs many calls in this process, in others, or on a Dask cluster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
