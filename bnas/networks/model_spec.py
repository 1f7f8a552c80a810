"""The description of a model by name: which one, how far it is binarized, for which images; and the model itself."""

from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from bnas.networks.models import MODELS, build_model
from bnas.networks.user_model import load_model
from bnas.space.values import Precision, WeightBinarizerName
from bnas.spec import Spec, id_of
from bnas.trust import CODE, Named


class ModelSpec(Spec):
    """A reference network with its precisions, or a user's own module as it is.

    precision, first, last, weights: as in `build_model`; a module of the user's own has none of them. Where first and
    last are left out, they are those of the paper.
    """

    model: Annotated[Named, Field(min_length=1)]  # a name in MODELS, `file.py:attr` or `pkg.mod:attr`
    input: tuple[PositiveInt, PositiveInt, PositiveInt]  # channels, height, width
    classes: PositiveInt
    precision: str = "real"
    first: Precision = "real"
    last: Precision = "real"
    weights: Annotated[WeightBinarizerName, CODE] = "xnor"

    @model_validator(mode="before")
    @classmethod
    def _ends_are_the_papers(cls, data: Any) -> Any:
        if not isinstance(data, dict) or str(data.get("model")) not in MODELS:
            return data
        first, last = MODELS[str(data["model"])].ends(str(data.get("precision")))
        return {"first": first, "last": last} | data

    @model_validator(mode="after")
    def _own_modules_stay_as_they_are(self) -> "ModelSpec":
        binarized = [name for name in ("precision", "first", "last") if getattr(self, name) != "real"]
        if self.model not in MODELS and binarized:
            raise ValueError(
                f"{binarized[0]}: can be chosen for {', '.join(MODELS)}, but {self.model!r} is a module of its own; "
                "build it with the layers that it is to have, or convert it"
            )
        return self

    @property
    def id(self) -> str:
        """A short name that is the same for equal descriptions."""
        return id_of(self)

    def build(self) -> nn.Module:
        """Return the model, freshly initialised.

        Raises:
            LookupFailed: there is no such model, preset, precision or binarizer.
        """
        if self.model not in MODELS:
            return load_model(self.model)
        return build_model(
            self.model, precision=self.precision, first=self.first, last=self.last, weights=self.weights,
            classes=self.classes,
        )  # fmt: skip
