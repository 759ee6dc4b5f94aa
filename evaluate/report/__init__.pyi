from .follow_up import next_command as next_command
from .results_json import comparison_results as comparison_results
from .run_diff import diff as diff
from .save import PARTIAL as PARTIAL
from .save import Figures as Figures
from .save import save_comparison as save_comparison
from .verdicts import best_head_verdicts as best_head_verdicts
