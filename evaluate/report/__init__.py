"""What a comparison leaves on disk: figures, report.html, results.json, and the difference of two runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
