"""What a manifest says of images that were held out, and that a network was trained on after all -> a sentence."""

from collections.abc import Mapping
from typing import Any

from bnas.amounts import percent

FINAL = "final_training"  # the key of the manifest
MAYBE_SEEN = "maybe_seen"  # of an accuracy on held-out images, in place of validation: by a teacher from elsewhere


def is_final(manifest: Mapping[str, Any]) -> bool:
    """Whether the network was trained once more after it was chosen, on the images held out before too."""
    return bool(manifest.get(FINAL, {"done": False})["done"])


def teacher_accuracy(facts: Mapping[str, Any]) -> str:
    """Say what a teacher gets right of the held-out images, as a manifest or an event has it; "" where it has not."""
    if (seen := facts.get(f"{MAYBE_SEEN}_accuracy")) is not None:
        return f"{percent(seen)} of the held-out images right, which it may have been trained on"
    known = facts.get("validation_accuracy")
    return "" if known is None else f"{percent(known)} of the held-out images right"


def final_sentence(manifest: Mapping[str, Any]) -> str:
    """Say what the best was trained on at last, and which accuracy is of which training; "" where nobody asked.

    Raises:
        LookupError, TypeError: the manifest has not the form that it must have.
    """
    if FINAL not in manifest:
        return ""
    known = manifest[FINAL]
    if not known["done"]:
        return (
            f"The best was to be trained once more, on the held-out images too, but {known['why']}: its weights are "
            "those of the training without them."
        )
    before = known["accuracy_before"]
    return (
        f"Chosen by {percent(before['validation'])} of the held-out images, the best was trained once more, on all "
        f"{known['images']} training images, those {known['held_out_before']} among them: "
        f"{percent(manifest['accuracy']['test'])} of the test images, where the training before had "
        f"{percent(before['test'])}."
    )
