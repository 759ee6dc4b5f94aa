"""How much of the machine this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTAS = (  # of a container: the quota and the period in microseconds, by cgroups version 2 and 1
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def available_processors() -> int:
    """Return the number of processors that this process may use, at least 1.

    That is what its affinity allows, and no more than the container's limit, rounded up: a container with 2 of
    64 processors that started 64 threads would be halted by the kernel most of the time.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        count = os.cpu_count() or 1
    return max(1, min(count, _container_limit() or count))


def _container_limit() -> int | None:
    for paths in _QUOTAS:
        try:
            quota, period = " ".join(Path(path).read_text(encoding="ascii") for path in paths).split()
            if int(quota) > 0 and int(period) > 0:
                return math.ceil(int(quota) / int(period))
        except (OSError, ValueError):  # no such file; "max" for no limit
            continue
    return None
