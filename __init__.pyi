from . import errors as errors
from .cache import FeatureCache as FeatureCache
from .cache import info as info
from .cache import pack as pack
from .errors import EmbedonceError as EmbedonceError
from .evaluate import Comparison as Comparison
from .evaluate import Groups as Groups
from .evaluate import HeadResult as HeadResult
from .evaluate import Split as Split
from .evaluate import Tuning as Tuning
from .evaluate import compare as compare
from .evaluate import diff as diff
from .evaluate import evaluate_model as evaluate_model
from .evaluate import explain as explain
from .evaluate import export as export
from .evaluate import find_groups as find_groups
from .evaluate import finetune as finetune
from .evaluate import predict as predict
from .evaluate import train as train
from .evaluate import tune as tune
from .extract import doctor as doctor
from .extract import extract_features as extract_features
from .extract import verify as verify
from .heads import make_head as make_head
from .heads.io import load_head as load_head
from .heads.io import save_head as save_head

__version__: str
