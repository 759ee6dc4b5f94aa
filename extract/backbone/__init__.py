"""The backbone: which network, its weights, and their fingerprint.

`resolve_weights` finds the weights that a user named, `weights_from` reads them without Keras, and `build_backbone`
builds the frozen Keras model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
