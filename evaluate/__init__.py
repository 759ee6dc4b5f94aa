"""From features and heads to results.

`compare` trains heads on one split and tests them, `tune` searches for parameters, and the functions of `models` work
with a head as a file. Each subpackage is one concept; imports go down only, in the order shared, metrics, splits,
duplicates, scoring, models, finetuning, tuning, report, comparison.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
