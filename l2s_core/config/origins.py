"""Which file or option a setting of a run stands in: what the line on a mistake begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_core.config.overrides import Overrides


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where the settings of a run come from: its file, as it is read, and what overrides it.

    `section_file` returns the file and the values of a section that is given by name.
    """

    path: Path
    tree: Mapping[str, Any]
    overrides: Overrides
    folders: Mapping[str, str]
    section_file: Callable[[str, str], tuple[Path, Mapping[str, Any]]]

    def of(self, place: Sequence[Any]) -> str:
        """Return the file or option of a place; of a rule about several settings, the file and all options."""
        if not place:
            options = sorted(set(self.overrides.origins.values()) - {str(self.path)})
            return f"{self.path} with {', '.join(options)}" if options else str(self.path)
        parts = [str(part) for part in place]
        key = self.overrides.key_of(".".join(parts))
        if key is not None:
            inner = parts[len(key.split(".")) :]
            return self._within(self.overrides[key], key, inner, self.overrides.origins[key])
        if parts[0] == "classifiers" and len(parts) > 2:
            named = self.tree.get("classifiers") or {}
            return self._within(named.get(parts[1]), "classifiers", parts[2:], str(self.path))
        return self._within(self.tree.get(parts[0]), parts[0], parts[1:], str(self.path))

    def _within(self, value: Any, section: str, inner: Sequence[str], origin: str) -> str:
        """Return the origin of a key in a section, which may be a name, or be based on one."""
        folder = self.folders.get(section, "classifiers" if section == "classifiers" else None)
        if folder is None or not inner:
            return origin
        if isinstance(value, str):
            path, values = self.section_file(value, folder)
            return str(path) if inner[0] in values else origin
        if isinstance(value, Mapping) and inner[0] not in value and "base" in value:
            return self._within(value["base"], section, inner, origin)
        return origin
