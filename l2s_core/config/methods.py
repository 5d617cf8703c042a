"""What every method of sampling says in a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from l2s_core.config.base import Section

MAIN = "main"  # the run's own classifier, beside the further ones, and the method that steers by it
PLAIN = "plain"  # sampling as it is

ReadSection = Callable[[Any, str], dict[str, Any]]
"""Reads a section that is spelt out, or the name of a file in a folder of configs/, or both with `base`."""


class MethodConfig(Section):
    """A method of sampling; `kind` names the class, of the table METHODS, that has its settings."""

    kind: str

    @classmethod
    def spelt_out(cls, values: dict[str, Any], steering: dict[str, Any], read: ReadSection) -> dict[str, Any]:
        """Return the section's values with what it takes from the run's `steering`, or from files it names."""
        return values

    def require_fit(self, run: Any, place: str) -> None:
        """Raise ValueError where the method does not go with the rest of a RunConfig; `place` is its own, for users."""
