"""The names of all metrics, for types and the command line, which need no NumPy."""

from typing import Literal, TypeAlias

MetricName: TypeAlias = Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "mcc"]
