"""This CPU -> the shapes of tiles that suit it, and its name."""

import llvmlite.binding as llvm

LANES = 16  # float32 values in a vector, whatever the CPU's own width; LLVM makes of it what there is
VECTOR_BYTES = 4 * LANES

_FEATURES = llvm.get_host_cpu_features()
_HAS_WIDE_REGISTERS = bool(_FEATURES.get("avx512f"))
_COUNTS_BEST_BY_EIGHT_BYTES = "sse2" in _FEATURES and not _FEATURES.get("avx512vpopcntdq")

BIT_WORD = 8 if _COUNTS_BEST_BY_EIGHT_BYTES else 4  # bytes whose bits are counted in one lane
VECTORS = (4, 2, 1) if _HAS_WIDE_REGISTERS else (2, 1)  # of a tile; the most that remain are taken
BIT_PIXELS = 4 if _HAS_WIDE_REGISTERS else 2
REAL_PIXELS = 6 if _HAS_WIDE_REGISTERS else 2


def cpu() -> str:
    """Return the name of this CPU, and what of its instructions matters here."""
    wanted = ("avx2", "fma", "avx512f", "avx512vpopcntdq", "neon", "sve")
    return " ".join([llvm.get_host_cpu_name(), *(name for name in wanted if _FEATURES.get(name))])
