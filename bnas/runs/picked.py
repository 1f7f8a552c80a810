"""The folder of a selection: the names in it, and the run in which its network was fine-tuned."""

import os
from pathlib import Path

from bnas.errors import RunError

DECISIONS, LAYERS, NETWORKS, FIGURES = "selection.yaml", "layers.csv", "networks.csv", "figures"
FINETUNED, SELECTED = "finetuned", "selected"  # the runs; the one of the network that was selected


def run_in(folder: Path) -> Path:
    """Return the run folder that a person means: the folder itself, or in that of a selection its fine-tuned network's.

    Raises:
        RunError: the network of the selection was not fine-tuned.
    """
    if not os.path.isfile(folder / DECISIONS):  # false of a name that is too long, too
        return folder
    run = folder / FINETUNED / SELECTED
    if not run.is_dir():
        raise RunError(
            f"{folder}: holds a selection whose network was not trained; run bnas train {folder / DECISIONS} --data D "
            "--out RUN, then give RUN, or select again with --finetune EPOCHS"
        )
    return run
