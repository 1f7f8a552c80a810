"""Python functions -> functions that compiled code calls, or the machine code of one with all that it calls."""

from collections.abc import Callable
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"error_model": "numpy"}


def inner(function: F, *, name: str = "") -> F:
    """Return a function that compiled code calls.

    Args:
        name: of its own, for a function made inside another: machine code is linked by names, and two of one name would
            be one.
    """
    if name:
        function.__name__ = function.__qualname__ = name
    made: F = numba.njit(**OPTIONS)(function)
    return made


def inlined(function: F) -> F:
    """Return a function that becomes a part of the one that calls it, which spares LLVM going over all below it."""
    made: F = numba.njit(inline="always", **OPTIONS)(function)
    return made


def machine_code(function: Any, arguments: int) -> tuple[str, bytes]:
    """Return the object code of a function that takes so many int64 and gives one, and the name that it has there.

    In C it is int32 (*)(int64 *result, void **problem, int64...), which is how numba's functions call each other; no
    exception can leave it. The code needs nothing of numba, and of Python.
    """
    types = (numba.int64,) * arguments
    function.compile(types)
    name = str(function.overloads[types].fndesc.llvm_func_name)
    module = llvm.parse_assembly(function.inspect_llvm(types))
    for other in module.functions:
        if other.name != name and not other.is_declaration:
            other.linkage = llvm.Linkage.internal  # what Python would call it by is not needed
    machine = target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.PipelineTuningOptions()))
    return name, bytes(machine.emit_object(module))


def target_machine() -> Any:
    """Return what makes code for this CPU."""
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )
