"""embedonce: embed images once with a frozen MobileNetV2, then compare classifier heads in seconds.

The public names are resolved when first used, so that ``import embedonce`` loads neither TensorFlow nor
scikit-learn.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
