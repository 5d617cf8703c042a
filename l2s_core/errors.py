"""The one exception class for mistakes a user can make and mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in input: one line saying what was wrong, what is allowed and the way out."""


def unknown_name(kind: str, value: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name outside a closed set, with the closest allowed name as a hint."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {kind} {value!r};{hint} allowed: {', '.join(names)}")
