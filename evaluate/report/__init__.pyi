from .run_diff import diff_runs as diff_runs
from .save import save_comparison as save_comparison
