from .config import read_config as read_config
from .config import write_config as write_config
from .demo import run_demo as run_demo
from .fail_under import failed_gates as failed_gates
from .fail_under import read_gates as read_gates
from .result import Comparison as Comparison
from .run import DEFAULT_HEADS as DEFAULT_HEADS
from .run import compare as compare
