from .coordinator import connected as connected
from .coordinator import count_threads as count_threads
from .coordinator import embed_on_cluster as embed_on_cluster
from .worker import Job as Job
from .worker import SliceResult as SliceResult
