"""Finding and loading a judge, by the class of model that its folder states."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from l2s_core.backbones.folder import find_folder, fingerprint_of
from l2s_core.errors import UserError, first_line, unknown_name
from l2s_core.evaluation.detectors.cache import CachedJudge
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.hashing import digest
from l2s_core.registry import JUDGES
from l2s_core.storage.files import read_json

BACKGROUND = "background"  # a class of segmenters, and nothing to find


def judge_folder(model: str) -> Path:
    """Return the folder of a judge: a shipped name, a path or a hub id; raises UserError when there is none."""
    return find_folder("judge", model, "config.json", (), "mini-seg, a model folder")


def judge_class(folder: Path) -> type[Judge]:
    """Return the class of judge that a model folder's settings state; raises UserError when it is none."""
    settings = _settings(folder)
    stated = (settings.get("architectures") or [None])[0]
    if stated in JUDGES.names():
        named: type[Judge] = JUDGES.load(stated)
        return named
    model_type = settings.get("model_type")
    if stated is None and model_type is not None:
        for name in JUDGES.names():
            judge: type[Judge] = JUDGES.load(name)
            if model_type == judge.MODEL_TYPE:
                return judge
    raise UserError(
        f"{folder} holds a {stated or model_type or 'nothing'}, which is no judge; allowed: {', '.join(JUDGES.names())}"
    )


def judge_fingerprint(model: str) -> str:
    """Return a digest of the judge's files and of what counts as a find."""
    folder = judge_folder(model)
    return digest([fingerprint_of(folder), *judge_class(folder).CRITERIA])


def require_names(model: str, names: Iterable[str]) -> None:
    """Raise UserError for a class that a judge of a closed set cannot find, by what its settings state."""
    folder = judge_folder(model)
    judge = judge_class(folder)
    if judge.OPEN_VOCABULARY:
        return
    known = sorted({geneval_name(name) for name in judge.stated_names(_settings(folder))} - {BACKGROUND})
    for name in names:
        if geneval_name(name) not in known:
            raise unknown_name(f"object of the judge {model}", name, known)


def load_judge(model: str, *, device: str = "cpu", cache: Path | None = None) -> Judge:
    """Load a judge by the class its settings state; with `cache`, a folder, it keeps there what it found.

    A judge that is quick keeps nothing. Raises UserError when it is missing, damaged or of another class.
    """
    folder = judge_folder(model)
    kind = judge_class(folder)
    try:
        judge = kind(folder, device=device)
    except UserError:
        raise
    except Exception as error:  # the libraries raise many kinds for one cause: a file they cannot read
        raise UserError(
            f"cannot load the judge {folder}: {first_line(error)}; a file is missing or damaged "
            "(weights must be safetensors), fetch it again"
        ) from None
    return judge if cache is None or judge.QUICK else CachedJudge(judge, judge_fingerprint(model), cache)


def _settings(folder: Path) -> dict[str, Any]:
    settings = read_json(folder / "config.json")
    return settings if isinstance(settings, dict) else {}
