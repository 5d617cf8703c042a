"""The one exception class for mistakes a user can make and mend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_PASSWORD = re.compile(r"(://[^\s:/@]*:)\S*@")


class UserError(Exception):
    """A mistake in input: one line saying what was wrong, what is allowed and the way out."""


def one_line(text: str, limit: int = 2000) -> str:
    """Return a text on one line; of a longer one than `limit` characters the middle is left out."""
    text = " ".join(text.split())
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind when it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def masked(text: str) -> str:
    """Return a text for people and logs with three stars for every password in an address (user:password@host)."""
    return _PASSWORD.sub(r"\1***@", text)


def did_you_mean(value: object, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return " did you mean 'x'?" for the closest of `names`, or nothing when none is close."""
    close = difflib.get_close_matches(str(value), list(names), n=1, cutoff=cutoff)
    return f" did you mean {close[0]!r}?" if close else ""


def unknown_name(kind: str, value: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name outside a closed set, with the closest allowed name as a hint."""
    names = sorted(allowed)
    return UserError(f"unknown {kind} {value!r};{did_you_mean(value, names, cutoff=0.5)} allowed: {', '.join(names)}")
