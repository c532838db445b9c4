"""What the operating system says of the machine. Standard library only; psutil is used where it is there."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_MB = 1 << 20


def memory_mb() -> tuple[int | None, int | None]:
    """Memory in all and free, in MiB; None for what can't be told."""
    try:
        import psutil

        memory = psutil.virtual_memory()
        return memory.total // _MB, memory.available // _MB
    except ImportError:
        return _memory_on_windows() if sys.platform == "win32" else _memory_on_posix()


def worker_threads() -> int:
    """Threads for computing: `OMP_NUM_THREADS` if set, else the cores this process may use, shared among the workers.

    `BREAST_TUMOR_SEG_WORKERS` says how many of them run on this machine at once; one if not set.
    """
    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(asked) > 0:
        return int(asked)
    workers = os.environ.get("BREAST_TUMOR_SEG_WORKERS", "")
    return max(cores() // max(int(workers) if workers.isdecimal() else 1, 1), 1)


def cores() -> int:
    """Physical cores, as far as they can be told, that this process may use: two threads on a core are no faster."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import psutil

        return min(allowed, psutil.cpu_count(logical=False) or allowed)
    except ImportError:
        return allowed


def long_paths() -> bool | None:
    """Whether paths of more than 260 characters work; None where there is no such limit."""
    if sys.platform != "win32":
        return None
    import winreg

    place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def _memory_on_posix(table: Path = Path("/proc/meminfo")) -> tuple[int | None, int | None]:
    """Linux has a table of it; elsewhere only the total is known."""
    try:
        found = dict(re.findall(r"^(\w+): +(\d+) kB$", table.read_text(encoding="ascii"), re.MULTILINE))
        return int(found["MemTotal"]) // 1024, int(found["MemAvailable"]) // 1024
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MB, None
    except (OSError, ValueError, AttributeError):
        return None, None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("free", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    )


def _memory_on_windows() -> tuple[int | None, int | None]:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None, None
    return status.total // _MB, status.free // _MB
