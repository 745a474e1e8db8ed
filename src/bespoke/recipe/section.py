"""A table of the recipe, in which a wrong key is refused, and the kinds of values that tables hold."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
Prompts = Annotated[tuple[str, ...], Field(strict=False)]  # TOML has lists, no tuples
Numbers = Annotated[tuple[Annotated[float, Field(ge=0.0)], ...], Field(strict=False)]
Rate = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Section(BaseModel):
    """A table of the recipe; unknown keys are refused, and so is `true` for a number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
