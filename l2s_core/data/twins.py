"""WordNet's is-a relation between object names: a "man" is a "person", so the two names are no two objects."""

from __future__ import annotations

from functools import lru_cache

from l2s_core.errors import UserError


class WordNetTwins:
    """Whether of two nouns one is a kind of the other, in any of their senses, by the `wn` library's lexicon."""

    def __init__(self, lexicon: str) -> None:
        import wn

        try:
            self._wordnet = wn.Wordnet(lexicon)
        except wn.Error:
            raise UserError(
                f"data.twins is {lexicon!r}, but that WordNet is not installed; get it with 'python -m wn download {lexicon}', "
                "or set data.twins to none"
            ) from None
        self._kinds = lru_cache(maxsize=100_000)(self._kinds_of)

    def __call__(self, first: str, second: str) -> bool:
        return bool(self._synsets(first) & self._kinds(second)) or bool(self._synsets(second) & self._kinds(first))

    def _synsets(self, name: str) -> frozenset[str]:
        return self._kinds(name, 0)

    def _kinds_of(self, name: str, depth: int = -1) -> frozenset[str]:
        """Return the ids of a noun's senses, and with depth -1 of everything they are a kind of."""
        found = {synset.id: synset for synset in self._wordnet.synsets(name, pos="n")}
        if depth == 0:
            return frozenset(found)
        frontier = list(found.values())
        while frontier:
            above = [h for synset in frontier for h in synset.hypernyms() if h.id not in found]
            found |= {h.id: h for h in above}
            frontier = list({h.id: h for h in above}.values())
        return frozenset(found)


def twins_of(setting: str):
    """Return the test for a setting of data.twins: "none", or the name of a WordNet lexicon such as oewn:2024."""
    return (lambda _first, _second: False) if setting == "none" else WordNetTwins(setting)
