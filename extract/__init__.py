"""Images to features: scanning, decoding, embedding, and the extraction run.

`extract_features` embeds a folder of images with a frozen backbone and writes a cache; `verify` checks a cache against
its images, and `doctor` checks the machine. Inference engines are in `engines`, the network and its weights in
`backbone`, and extraction on a Dask cluster in `cluster`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
