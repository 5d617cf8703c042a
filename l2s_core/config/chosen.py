"""Sections that are chosen by a name in them: a protocol, a method, a source of scenes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from l2s_core.errors import UserError
from l2s_core.registry import Registry

UNKNOWN = "unknown_name"  # type of the problem of a name that chooses nothing; its message says all


def chosen_by(field: str, registry: Registry) -> Any:
    """Return what a section's annotation needs so that its `field` names the class, of a registry, that validates it.

    Use it as ``Annotated[Base, chosen_by("kind", TABLE)]``, also for the values of a mapping or a tuple. `Base` holds
    what all sections of the kind have in common; the registry's classes derive from it. A class is loaded when a
    section names it, and the section is written with all keys of its class.
    """
    return ChosenBy(field=field, registry=registry)


@dataclass(frozen=True, kw_only=True)
class ChosenBy:
    """The mark that `chosen_by` leaves in an annotation."""

    field: str
    registry: Registry

    def section(self, base: type[BaseModel], values: Mapping[str, Any]) -> type[BaseModel]:
        """Return the class that values choose; raises UserError for an unknown name, KeyError where there is none."""
        default = base.model_fields[self.field].default
        name = values[self.field] if base.model_fields[self.field].is_required() else values.get(self.field, default)
        chosen = self.registry.load(str(name))
        if not (isinstance(chosen, type) and issubclass(chosen, base)):
            raise UserError(
                f"the {self.registry.kind} {name!r} is {chosen!r}, which is no class of a section; "
                f"needed: a subclass of {base.__name__}"
            )
        return chosen

    def whose(self, key: str) -> str:
        """Return what to say of an unknown key that others of the registry's classes have, nothing if none has it."""
        having = [name for name in self.registry.names() if key in self._keys(name)]
        return f"; {key} is a key of {self.registry.kind} {' and '.join(having)}" if having else ""

    def _keys(self, name: str) -> Collection[str]:
        try:
            return self.registry.load(name).model_fields
        except (AttributeError, UserError):  # no section, or a plugin that cannot be loaded
            return ()

    def __get_pydantic_core_schema__(self, base: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate values by the class they choose, and write a section by its own class."""

        def build(values: Any) -> Any:
            return self._section(base, values).model_validate(values) if isinstance(values, Mapping) else values

        written = core_schema.simple_ser_schema("any")  # by the class of the value, as pydantic's SerializeAsAny
        return core_schema.no_info_before_validator_function(build, handler(base), serialization=written)

    def _section(self, base: type[BaseModel], values: Mapping[str, Any]) -> type[BaseModel]:
        """Return the class that values choose; raises ValidationError in the place of the name."""
        try:
            return self.section(base, values)
        except KeyError:
            problem = InitErrorDetails(type="missing", loc=(self.field,), input=values)
        except UserError as error:
            reason = PydanticCustomError(UNKNOWN, "{reason}", {"reason": str(error)})
            problem = InitErrorDetails(type=reason, loc=(self.field,), input=values[self.field])
        raise ValidationError.from_exception_data(base.__name__, [problem])
