"""A block of parameters, and types of numbers for its fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage.errors import InputError


class Section(BaseModel):
    """A block of parameters: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value: object) -> object:
        parts = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict) and not any(isinstance(key, str) for key in value):  # no block of parameters
            parts = [*value.values()]
        for switch in (part for part in parts if isinstance(part, bool)):
            raise InputError(f"{str(switch).lower()} is not allowed, no parameter is a switch")
        return value


Proportion = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Strength = Annotated[float, Field(ge=0, le=1)]
HueStrength = Annotated[float, Field(ge=0, le=0.5)]
