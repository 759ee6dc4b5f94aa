from .nested import search_spaces as search_spaces
from .nested import tune_plan as tune_plan
from .nested import tuning_notes as tuning_notes
from .nested import with_tuned as with_tuned
from .result import Tuning as Tuning
from .run import tune as tune
from .successive_halving import check_seconds as check_seconds
