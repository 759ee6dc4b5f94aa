"""The number of processors that this process may use, and their model."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

_QUOTAS = (  # of a container: its quota and its period, by cgroups version 2 and 1
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def cpu_count() -> int:
    """Return the number of processors that the process's affinity and its container's quota allow, at least 1.

    ``joblib.cpu_count`` returns the same; its import is a tenth of a second, which every ``predict`` would wait for.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for paths in _QUOTAS:
        try:
            quota, period = "".join(Path(path).read_text("ascii") for path in paths).split()
            return max(1, min(count, math.ceil(int(quota) / int(period)))) if int(quota) > 0 else count
        except (OSError, ValueError, ZeroDivisionError):  # no such file; "max"
            continue
    return count


def processor_model() -> str:
    """Return what the system says of the first processor: its model, which decides how fast instructions are."""
    names = ("model name", "cpu family", "model", "CPU implementer", "CPU variant", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fields = (line.partition(":") for line in lines)
    return ", ".join(value.strip() for name, _, value in fields if name.strip() in names)
