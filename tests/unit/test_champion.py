"""The champion of registered classifiers: on one validation set alone, whoever registers when."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from tasks.tracking.champion import ATTEMPTS, Validation, best_of, crown


def measured(accuracy: float, data: str = "full", records: int = 200) -> Validation:
    return Validation(maps="inverted", data=data, records=records, accuracy=accuracy)


def test_accuracies_of_two_validation_sets_are_not_compared() -> None:
    """A classifier of a sweep over ten scenes took the title by its accuracy on those."""
    assert best_of([(1, measured(0.8)), (2, measured(0.99, "sweep", 10)), (3, measured(0.85))]) == 3
    assert best_of([(1, measured(0.99, "sweep", 10)), (2, measured(0.4))]) == 2
    assert best_of([(1, measured(0.6)), (2, measured(0.9, "as large"))]) == 1
    assert best_of([(2, measured(0.8)), (1, measured(0.8))]) == 1 and best_of([]) is None


def test_tags_come_back_and_those_of_an_earlier_version_are_none() -> None:
    assert Validation.of(measured(0.8125).tags()) == measured(0.8125)
    assert Validation.of({"val_accuracy": "0.9"}) is None and Validation.of({}) is None


class Registry:
    """A registry in which other processes do something each time before the alias is set."""

    def __init__(self, *meanwhile: Any) -> None:
        self.versions: dict[int, Validation] = {}
        self.champion: int | None = None
        self.meanwhile = list(meanwhile)

    def search_model_versions(self, query: str, max_results: int) -> list[Any]:
        return [SimpleNamespace(version=str(n), tags=one.tags()) for n, one in self.versions.items()]

    def get_model_version_by_alias(self, model: str, alias: str) -> Any:
        if self.champion is None:
            raise MlflowException("no such alias")
        return SimpleNamespace(version=str(self.champion))

    def set_registered_model_alias(self, model: str, alias: str, version: str) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)(self)
        self.champion = int(version)


def collide(registry: Registry) -> None:
    raise MlflowException("UniqueViolation registered_model_alias_pk")


def another_is_crowned(registry: Registry) -> None:
    registry.versions[2] = measured(0.9)
    registry.champion = 2


@pytest.mark.parametrize("order", list(permutations([collide, another_is_crowned])))
def test_two_that_register_at_once_leave_the_better_one(order: tuple[Any, ...]) -> None:
    """One of them failed, or the last to set the alias set the worse one."""
    registry = Registry(*order)
    registry.versions[1] = measured(0.8)
    crown(registry, "relation-x", "inverted")
    assert registry.champion == 2


def test_a_store_that_takes_no_alias_is_no_silence() -> None:
    registry = Registry(*[collide] * ATTEMPTS)
    registry.versions[1] = measured(0.8)
    with pytest.raises(MlflowException, match="UniqueViolation"):
        crown(registry, "relation-x", "inverted")
