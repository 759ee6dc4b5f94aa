"""Search for parameters of a head by successive halving, alone or nested in folds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
