"""`bnas`: the commands, and what every one of them has in common: exit codes, and errors in one line."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from bnas import __version__
from bnas.allocator import is_out_of_memory, keep_freed_memory
from bnas.cli.bench import bench_command
from bnas.cli.cost import cost_command
from bnas.cli.export import export_command
from bnas.cli.init import init_command
from bnas.cli.latency_table import latency_table_command
from bnas.cli.out import images_said
from bnas.cli.predict import predict_command
from bnas.cli.rank_check import rank_check_command
from bnas.cli.report import report_command
from bnas.cli.search import search_command
from bnas.cli.select import select_command
from bnas.cli.train import train_command
from bnas.errors import BnasError, LookupFailed
from bnas.lookup import reason
from bnas.masking import mask_secrets

FAILED = 1

app = typer.Typer(
    name="bnas",
    help="Search, train and ship binary neural networks under an op budget.",
    epilog="What each method computes, and when it pays: docs/methods.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _to_its_end(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that code of a user's, run for it, cannot end with `sys.exit` as if it were done."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            command(**options)
        except SystemExit as problem:
            raise LookupFailed(f"the code of a model, data set or sampler was called: {reason(problem)}") from problem

    return run


COMMANDS: dict[str, Callable[..., None]] = {
    "init": init_command,
    "search": search_command,
    "select": select_command,
    "train": train_command,
    "cost": cost_command,
    "export": export_command,
    "predict": predict_command,
    "bench": bench_command,
    "latency-table": latency_table_command,
    "rank-check": rank_check_command,
    "report": report_command,
}
for name, command in COMMANDS.items():
    app.command(name)(_to_its_end(command))

_debug = False


def _say_version(asked: bool) -> None:
    if asked:
        print(f"bnas {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Search, train and ship binary neural networks under an op budget."""
    global _debug
    _debug = debug


def main() -> None:
    """Run the command line: 0 done; 1 failed, one line on stderr says why; 2 wrong usage."""
    keep_freed_memory()
    try:
        with images_said():
            app()
    except BnasError as problem:
        _fail(problem, str(problem))
    except KeyboardInterrupt as problem:
        _fail(problem, "stopped; the same command goes on from here")
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does: nothing is wrong, and nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as problem:  # of a library: a cache in a home that cannot be written, a disk that is full
        where = f"{problem.filename}: " if problem.filename else ""
        said = problem.strerror or problem
        _fail(problem, f"{where}the system refused this: {said}; see to it, and run the same command again")
    except Exception as problem:
        if is_out_of_memory(problem):
            _fail(problem, f"out of memory: {str(problem).partition(chr(10))[0][:200]}; give smaller batches or images")
        what = f"{type(problem).__name__}: {problem}"
        _fail(problem, f"an error of bnas itself: {what}; please report it with what `bnas --debug ...` prints")


def _fail(problem: BaseException, message: str) -> None:
    if _debug:
        raise problem
    print("bnas: " + mask_secrets(" ".join(message.split())), file=sys.stderr)
    raise SystemExit(FAILED) from None
