"""Where a classifier may come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from l2s_core.backbones.folder import shipped_classifiers
from l2s_core.backbones.hub import hub_folder
from l2s_core.classifier.checkpoint import DESCRIPTION
from l2s_core.errors import UserError
from l2s_core.registry import CLASSIFIER_STORES


def classifier_folder(place: str | Path, home: Path | None = None) -> Path:
    """Return the local folder of a classifier.

    `place` is a folder, the name of a configuration whose classifier ships, what a store holds ("models:/NAME@ALIAS",
    "models:/NAME/VERSION" and "runs:/ID" of MLflow), or a hub id. `home` is the folder of runs whose MLflow is asked,
    where MLFLOW_TRACKING_URI names none. Raises UserError when there is none.
    """
    scheme, found, _ = str(place).partition(":/")
    if found and scheme in CLASSIFIER_STORES.names():
        fetch: Callable[[str, Path | None], Path] = CLASSIFIER_STORES.load(scheme)
        return fetch(str(place), home)
    if (Path(place) / DESCRIPTION).is_file():
        return Path(place)
    shipped = shipped_classifiers()
    if str(place) in shipped:
        return shipped[str(place)]
    fetched = hub_folder(str(place), index=DESCRIPTION)
    if fetched is not None:
        return fetched
    stores = ", ".join(f"{name}:/…" for name in CLASSIFIER_STORES.names())
    raise UserError(
        f"no classifier {str(place)!r}; allowed: a folder with {DESCRIPTION}, "
        f"a shipped one ({', '.join(shipped) or 'none'}), {stores}, "
        "or a hub id in the local cache; 'l2s train' makes one"
    )
