"""Features to classes: the estimators and their registry.

Every head is a scikit-learn classifier. `make_head` makes one by name, `HEADS` lists those of embedonce. The numerical
methods are in `numerics`, and model files in `io`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
