"""Memory addresses and vectors of sixteen float32 values, for compiled code; LLVM makes of them what the CPU has.

Numba itself has neither. An address is an int64, in bytes.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing import signature
from numba.extending import intrinsic, register_model

from bnas.runtime.cpu import LANES

WORD, WHOLE, REAL = ir.IntType(64), ir.IntType(32), ir.FloatType()
REALS, WHOLES = ir.VectorType(REAL, LANES), ir.VectorType(WHOLE, LANES)
HALFWORD = ir.IntType(LANES)

Emit = Callable[..., Any]  # (IR builder, values of the arguments) -> value


class LanesType(types.Type):
    """Numba's name for a vector of float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, REALS)


register_model(LanesType)(_LanesModel)
VECTOR = LanesType()
ADDRESS, SCALAR = types.int64, types.float32


def operation(emit: Emit, result: Any, parameters: Sequence[Any]) -> Any:
    """Return a function for compiled code, of these numba types, which is the IR that `emit` writes."""

    def typed(context: Any, *given: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            value = emit(builder, *arguments)
            return cgutils.get_null_value(ir.LiteralStructType([])) if value is None else value

        return signature(result, *parameters), generate

    names = ["context", *(f"argument{index}" for index in range(len(parameters)))]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    typed.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
    return intrinsic(typed)


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """Return an address as a pointer."""
    return builder.inttoptr(address, kind.as_pointer())


def read(builder: Any, address: Any, kind: Any, align: int = 1) -> Any:
    """Return what lies at an address."""
    value = builder.load(pointer(builder, address, kind))
    value.align = align
    return value


def write(builder: Any, address: Any, value: Any, align: int = 1) -> None:
    """Put a value at an address."""
    builder.store(value, pointer(builder, address, value.type)).align = align


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector with the same value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, WHOLE(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(WHOLE, lanes), [0] * lanes))


def call(builder: Any, name: str, *arguments: Any) -> Any:
    """Return what an intrinsic of LLVM gives for vectors of one kind, which is also the kind of its result."""
    kind = arguments[0].type
    short = {"i64": "i64", "i32": "i32", "float": "f32"}[str(kind.element)]
    function = ir.FunctionType(kind, [kind] * len(arguments))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.v{kind.count}{short}"), arguments
    )


def _bend(b: Any, value: Any, slope: Any) -> Any:
    return b.select(b.fcmp_ordered(">", value, ir.Constant(REALS, [0.0] * LANES)), value, b.fmul(value, slope))


def _not_below(b: Any, value: Any, at: Any) -> Any:
    """Return one bit a lane: whether the value is not below; the first lane in the lowest bit."""
    return b.zext(b.bitcast(b.fcmp_ordered(">=", value, at), HALFWORD), WORD)


def _larger(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _smaller(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered("<", x, y), x, y)


def _popcount(b: Any, value: Any) -> Any:
    return b.ctpop(value)


load = operation(lambda b, address: read(b, address, REALS, 4), VECTOR, [ADDRESS])
store = operation(lambda b, address, value: write(b, address, value, 4), types.void, [ADDRESS, VECTOR])
splat = operation(lambda b, value: spread(b, value, LANES), VECTOR, [SCALAR])
plus = operation(lambda b, x, y: b.fadd(x, y), VECTOR, [VECTOR, VECTOR])
times = operation(lambda b, x, y: b.fmul(x, y), VECTOR, [VECTOR, VECTOR])
times_plus = operation(lambda b, x, y, z: call(b, "fmuladd", x, y, z), VECTOR, [VECTOR] * 3)
larger = operation(_larger, VECTOR, [VECTOR, VECTOR])
smaller = operation(_smaller, VECTOR, [VECTOR, VECTOR])
bend = operation(_bend, VECTOR, [VECTOR, VECTOR])
not_below = operation(_not_below, types.int64, [VECTOR, VECTOR])

load_real = operation(lambda b, address: read(b, address, REAL, 4), SCALAR, [ADDRESS])
store_real = operation(lambda b, address, value: write(b, address, value, 4), types.void, [ADDRESS, SCALAR])
load_word = operation(lambda b, address: read(b, address, WORD), types.int64, [ADDRESS])
store_word = operation(lambda b, address, value: write(b, address, value), types.void, [ADDRESS, types.int64])
load_halfword = operation(lambda b, a: b.zext(read(b, a, HALFWORD), WORD), types.int64, [ADDRESS])
store_halfword = operation(
    lambda b, address, value: write(b, address, b.trunc(value, HALFWORD)), types.void, [ADDRESS, types.int64]
)
popcount = operation(_popcount, types.int64, [types.int64])
