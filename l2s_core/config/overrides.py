"""Settings that change those of a file, and the file or option in which each of them stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

UNNAMED = "settings"  # where overrides stand that nobody said anything about: an argument in Python


class Overrides(dict[str, Any]):
    """Dotted keys, or names of sections, to values; `origins` says of each key in which file or option it stands."""

    def __init__(self, values: Mapping[str, Any], origin: str = UNNAMED) -> None:
        super().__init__(values)
        known = values.origins if isinstance(values, Overrides) else {}
        self.origins: dict[str, str] = {key: known.get(key, origin) for key in values}

    def changed(self, values: Mapping[str, Any], origin: str = UNNAMED) -> Self:
        """Return these overrides with further ones, which win."""
        further = Overrides(values, origin)
        merged = type(self)({**self, **further})
        merged.origins = self.origins | further.origins
        return merged

    def key_of(self, place: str) -> str | None:
        """Return the longest key that names a place, something around it, or something in it; None without one."""
        near = [key for key in self if key == place or place.startswith(f"{key}.") or key.startswith(f"{place}.")]
        return max(near, key=len, default=None)
