"""A table of networks trained alone <-> the file beside it, which says what they were trained with."""

from pathlib import Path
from typing import Self

from bnas.errors import LookupFailed
from bnas.runs import replacing
from bnas.runs.asked import Asked
from bnas.space.recipe import Recipe, SearchSettings
from bnas.spec import Spec, dump, read


class Terms(Spec):
    """What decides the accuracy of a network trained alone, beside its architecture and chance.

    Which images are held out is left to chance: another split of as many images changes an accuracy as another seed of
    the training does.
    """

    data: str
    validation: float
    limit: int | None
    resize: bool
    recipe: Recipe

    @classmethod
    def of(cls, data: str, settings: SearchSettings) -> Self:
        """Return what a search trains its best candidates with."""
        return cls(
            data=data, validation=settings.validation, limit=settings.limit, resize=settings.resize,
            recipe=settings.retrain.recipe,
        )  # fmt: skip

    def check(self, table: Path) -> None:
        """Check that the networks of a table were trained with these terms.

        Raises:
            LookupFailed: they were not, or nothing beside the table says so.
            SpecError: the file beside the table is damaged.
        """
        beside = _beside(table)
        if not beside.exists():
            raise LookupFailed(
                f"table {table}: no {beside.name} beside it says what its networks were trained with; keep the two "
                "files together, or make both with benchmarks/table.py"
            )
        stored = Asked(read(Terms, beside).model_dump(mode="json"), "")
        differing = stored.differences(Asked(self.model_dump(mode="json"), ""))
        if differing:
            said = "; ".join(f"{key} {theirs}, but {ours} is asked for" for key, (theirs, ours) in differing.items())
            raise LookupFailed(
                f"table {table}: its networks were trained with {said}; make another table with benchmarks/table.py"
            )

    def keep(self, table: Path) -> None:
        """Write the terms beside a new table; of one that has its terms, check that they are these.

        Raises:
            LookupFailed, SpecError: as `check`.
            RunError: the file cannot be written.
        """
        if _beside(table).exists():
            return self.check(table)
        with replacing(_beside(table)) as temporary:
            temporary.write_text(dump(self), encoding="utf-8")


def _beside(table: Path) -> Path:
    return table.with_suffix(".yaml")
