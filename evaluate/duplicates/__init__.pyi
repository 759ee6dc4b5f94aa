from .find import FoundGroups as FoundGroups
from .find import find_groups as find_groups
from .find import groups_for as groups_for
from .save import find_and_write as find_and_write
