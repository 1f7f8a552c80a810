"""What went wrong, in one line a person can act on: where, which rule, which values, what to do."""


class BnasError(Exception):
    """Root of every error this package raises on purpose; the command line prints it and exits with 1."""


class SpecError(BnasError):
    """A space, architecture, recipe or budget is not well formed."""


class BudgetError(BnasError):
    """No allowed network fits the budget."""


class ShapeError(BnasError):
    """A tensor or an image does not have the size that was asked for."""


class DataError(BnasError):
    """A data set is missing, unreadable, or does not match the space."""


class LookupFailed(BnasError):
    """A name on the command line or in YAML names nothing we know."""


class TrustError(BnasError):
    """A file names code, and nobody said that it may be run."""


class TrainingError(BnasError):
    """Training cannot go on (a loss that is not finite, for example)."""


class Stopped(BnasError):
    """The work was put down on request, saved; the same command goes on."""


class RunError(BnasError):
    """The run folder cannot be used: it holds another run, is locked, is damaged, or cannot be written."""


class ExportError(BnasError):
    """An export does not reload to the same network."""


class ProgramError(BnasError):
    """A packed network is damaged, not well formed, or cannot run on this machine."""
