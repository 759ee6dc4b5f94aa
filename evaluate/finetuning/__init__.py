"""Fine-tuning of the last layers of the backbone together with a softmax head."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
