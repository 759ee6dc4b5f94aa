from .across import near_duplicates_in as near_duplicates_in
from .find import find_groups as find_groups
from .find import groups_for as groups_for
from .result import NearDuplicates as NearDuplicates
