"""WordNet's is-a relation between object names: a "man" is a "person", so the two names are no two objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from l2s_core.errors import UserError

IsA = Callable[[str, str], bool]
"""(name, name) -> whether one is a kind of the other."""


REMEMBERED = 100_000  # names whose synsets stay in memory


class WordNetIsA:
    """Whether of two nouns one is a kind of the other, in any of their senses, by the `wn` library's lexicon.

    With `levels`, one must lie 1 to so many levels above the other; else any number of levels, 0 included: then two
    nouns that share a sense are kinds of each other.
    """

    def __init__(self, lexicon: str, levels: int | None = None) -> None:
        try:
            import wn
        except ImportError:
            raise UserError(
                f"data.is_a is {lexicon!r}, and WordNet is read with a package that is not installed; get it with "
                "\"pip install -e '.[wordnet]'\", or set data.is_a to none"
            ) from None
        try:
            self._wordnet = wn.Wordnet(lexicon)
        except wn.Error:
            raise UserError(
                f"data.is_a is {lexicon!r}, but that WordNet is not installed; "
                f"get it with 'python -m wn download {lexicon}', or set data.is_a to none"
            ) from None
        self._levels = levels
        self._senses = lru_cache(maxsize=REMEMBERED)(self._read_senses)
        self._kinds = lru_cache(maxsize=REMEMBERED)(self._read_kinds)

    def __call__(self, first: str, second: str) -> bool:
        return bool(self._senses(first) & self._kinds(second)) or bool(self._senses(second) & self._kinds(first))

    def _read_senses(self, name: str) -> frozenset[Any]:
        """Return the synsets of a noun."""
        return frozenset(self._wordnet.synsets(name, pos="n"))

    def _read_kinds(self, name: str) -> frozenset[Any]:
        """Return what the synsets of a noun are a kind of: they and all above, or those of the levels that count."""
        frontier = set(self._senses(name))
        found = set(frontier) if self._levels is None else set()
        level = 0
        while frontier and level != self._levels:
            frontier = {above for synset in frontier for above in synset.hypernyms()} - found
            found |= frontier
            level += 1
        return frozenset(found)


def is_a_test(setting: str, levels: int | None = None) -> IsA:
    """Return the test for a setting of data.is_a: "none", or the name of a WordNet lexicon such as oewn:2024."""
    return _never if setting == "none" else WordNetIsA(setting, levels)


def _never(_first: str, _second: str) -> bool:
    return False
