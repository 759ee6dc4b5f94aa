"""Feature caches on disk: format, writer, reader and verification.

A cache is one immutable, checksummed HDF5 file, or a folder of shards. `FeatureCache` reads one; `write_cache` and
`PartialRun` write one, segment by segment, and publish it by a rename. The format is specified in docs/FORMAT.md. This
package needs neither TensorFlow nor scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
