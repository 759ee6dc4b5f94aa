"""Files of a comparison: figures, report.html and results.json; differences between two runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
