"""What every section of a configuration is: strict, frozen, identified by its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer

from l2s_core.config.errors import explain
from l2s_core.errors import UserError
from l2s_core.hashing import digest

MAX_COUNT = 10_000_000  # scenes, prompts, images, epochs: more is a slip of the hand
EMPTY: tuple[Any, ...] = (None, "", (), [], {})


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change.

    Of `OPTIONAL` fields an empty one, or one at its default, is not written: such a section reads, and is identified,
    as before there was that field.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_empty_optional(self, dump: Any) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            key: value
            for key, value in dump(self).items()
            if key not in self.OPTIONAL or not (value in EMPTY or getattr(self, key) == fields[key].default)
        }

    def digest(self) -> str:
        """Hex digest of the section's values."""
        return digest(self.model_dump(mode="json"))


def validate(kind: type[Section], tree: dict[str, Any], origin: str | Callable[[Sequence[Any]], str]) -> Any:
    """Build a section; the first problem becomes a one-line UserError with the allowed values.

    `origin` is the file or option that all settings stand in, or tells it from a setting's place.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = origin if isinstance(origin, str) else origin(first["loc"])
        raise UserError(f"{where}: {explain(kind, first, tree)}") from None
