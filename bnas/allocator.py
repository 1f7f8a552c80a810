"""The memory of this process: what is freed is kept, for a training step takes as much again; and whether it ran out.

As it is, glibc gives large blocks back to the system at once, and the next step has every page of them made anew and
filled with zeros. `benchmarks/allocator.py` measures what that costs.
"""

import ctypes
import os
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of the parameters in malloc.h
_NEVER = -1
_BLOCK, _OLD_BLOCK = 2**30, 2**25  # bytes below which a block comes from memory that is kept; an old glibc's most
_AT_ONCE = 2**26  # bytes by which that memory grows
_SET_BY_THE_USER = ("MALLOC_", "GLIBC_TUNABLES")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # what a RuntimeError of torch says then


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next use; return whether its allocator could be told.

    Only glibc's can. Where the environment sets it (MALLOC_TRIM_THRESHOLD_ and the like, GLIBC_TUNABLES), it is left as
    it is. What a process has taken it holds until it ends; the peak may be a little higher.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(_SET_BY_THE_USER) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_MMAP_THRESHOLD, _BLOCK) or mallopt(_MMAP_THRESHOLD, _OLD_BLOCK)
    return all([kept, mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, _AT_ONCE)])


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a GPU."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":  # torch's, without torch
        return True
    return isinstance(problem, RuntimeError) and any(said in str(problem).lower() for said in _NO_MEMORY)
