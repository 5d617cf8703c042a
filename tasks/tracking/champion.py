"""Which version of a registered classifier is the champion of its kind of maps.

Accuracies of two validation sets say nothing about each other, so versions are compared on one set alone: the largest
one that a version was measured on; of two as large, the one that a version was first registered with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

ALIAS = "champion-{maps}"  # of a registered model: validation on one kind of maps says nothing about another
ATTEMPTS = 5  # at an alias that other processes set at the same time


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a version was measured on, and how well it did: its tags in the registry.

    `data` is a digest of the addresses of the maps, `records` how many of them are for validation.
    """

    maps: str
    data: str
    records: int
    accuracy: float

    def tags(self) -> dict[str, str]:
        """Return the tags of the version."""
        return {
            "validation_maps": self.maps,
            "validation_set": self.data,
            "validation_records": str(self.records),
            "val_accuracy": f"{self.accuracy:.4f}",
        }

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Self | None:
        """Return what a version's tags say; None for one of an earlier version, or whose tags are still to come."""
        try:
            return cls(
                maps=tags["validation_maps"],
                data=tags["validation_set"],
                records=int(tags["validation_records"]),
                accuracy=float(tags["val_accuracy"]),
            )
        except (KeyError, ValueError):
            return None


def best_of(versions: Iterable[tuple[int, Validation]]) -> int | None:
    """Return the number of the best version, the first of equals; None without versions."""
    versions = sorted(versions, key=lambda version: version[0])
    if not versions:
        return None
    _, largest = max(versions, key=lambda version: (version[1].records, -version[0]))
    same = [(number, one) for number, one in versions if one.data == largest.data]
    return max(same, key=lambda version: (version[1].accuracy, -version[0]))[0]


def crown(client: MlflowClient, model: str, maps: str) -> None:
    """Have the champion's alias name the best version that there is.

    Processes that register at once all call this after their own version has its tags; each looks again after it has
    set the alias, so that the last one to set it has seen every version. Raises MlflowException where the store
    takes none of the attempts.
    """
    alias = ALIAS.format(maps=maps)
    for attempt in range(1, ATTEMPTS + 1):
        best = best_of(_versions(client, model, maps))
        if best is None or _holder(client, model, alias) == best:
            return
        try:
            client.set_registered_model_alias(model, alias, str(best))
        except MlflowException:  # another process made the alias a moment ago
            if attempt == ATTEMPTS:
                raise


def _versions(client: MlflowClient, model: str, maps: str) -> list[tuple[int, Validation]]:
    found = client.search_model_versions(f"name = '{model}'", max_results=10_000)
    measured = [(int(version.version), Validation.of(version.tags)) for version in found]
    return [(number, one) for number, one in measured if one is not None and one.maps == maps]


def _holder(client: MlflowClient, model: str, alias: str) -> int | None:
    try:
        return int(client.get_model_version_by_alias(model, alias).version)
    except MlflowException:
        return None
