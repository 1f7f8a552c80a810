"""A folder and what is asked of it -> the run in it, begun or gone on with."""

from collections.abc import Collection

from bnas.errors import RunError
from bnas.runs.asked import Asked, is_free, spelled
from bnas.runs.files import cannot_write
from bnas.runs.lock import LOCK, Access
from bnas.runs.log import RunLog
from bnas.runs.names import check_empty
from bnas.runs.settings import BEFORE_CONFIG, holds_run, read_asked, restore_asked, write_asked, write_changed
from bnas.runs.sums import Sums


def take_up(access: Access, sums: Sums, log: RunLog, asked: Asked, mutable: Collection[str]) -> Asked:
    """Return what the run of a folder is asked, which is made where there is none.

    Args:
        asked: what is asked now.
        mutable: keys of the settings that may differ from what was asked before.
    Raises:
        RunError: the folder holds another run or something else, or cannot be written.
    """
    if not holds_run(access.path):
        check_empty(access.path, known=(*BEFORE_CONFIG, LOCK))
        try:
            access.path.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise cannot_write(access.path, problem) from problem
        with access.driving(since=log.began):
            if not holds_run(access.path):  # else another driver was faster
                write_asked(sums, asked)
                return asked
    stored = _stored(access, sums, log, asked)
    found = stored.differences(asked)
    fixed = {key: pair for key, pair in found.items() if not is_free(key, mutable)}
    if fixed:
        raise RunError(
            f"{access.path}: holds another run ({spelled(fixed)}); ask the same again, or give another --out"
        )
    if found:
        with access.driving(since=log.began):
            write_changed(sums, asked, has_space=any(key.startswith("space") for key in found))
            log.append("config", {"changed": spelled(found)})
    return read_asked(access.path, sums) if found else stored


def _stored(access: Access, sums: Sums, log: RunLog, asked: Asked) -> Asked:
    """Return what the run was asked; where that is damaged, but is what is asked now, it is written anew."""
    try:
        return read_asked(access.path, sums)
    except RunError as problem:
        with access.driving(since=log.began):
            restored = restore_asked(sums, asked)
            if not restored:
                raise
            log.warn(f"{problem} (it was made anew: {', '.join(restored)})")
    return read_asked(access.path, sums)
