"""Configurations from YAML files: found by name, sections spelt out, single settings changed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from l2s_core.config.base import validate
from l2s_core.config.origins import Origins
from l2s_core.config.overrides import Overrides
from l2s_core.config.run import RunConfig
from l2s_core.config.yaml_text import parse_yaml
from l2s_core.errors import UserError, did_you_mean
from l2s_core.registry import METHODS

CONFIG_FOLDER = Path(__file__).parents[2] / "configs"
QUICK = "-quick"  # how the name of a quick run ends
NAMED_SECTIONS = {
    "backbone": "backbones",
    "data": "data",
    "classifier": "classifiers",
    "steering": "steering",
    "benchmark": "benchmarks",
}


def load_run_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a run configuration; raises UserError, one line, that begins with the file or option of the mistake.

    `overrides` maps dotted keys, or the names of sections, to values; `Overrides` also says where each stands.
    """
    path = find_config(path)
    tree = read_yaml(path)
    given = Overrides(overrides or {})
    origins = Origins(
        path=path, tree=deepcopy(tree), overrides=given, folders=NAMED_SECTIONS, section_file=_section_file
    )
    values = deepcopy(dict(given))
    for key, folder in NAMED_SECTIONS.items():
        origin = given.origins.get(key, str(path))
        tree[key] = _resolve(values.pop(key, tree.get(key)), folder, origin)
    for key, value in values.items():
        _assign(tree, key, value, given.origins[key])
    classifiers = tree.get("classifiers") or {}
    if not isinstance(classifiers, dict):
        raise UserError(
            f"{origins.of(['classifiers'])}: classifiers is {classifiers!r}; "
            "allowed: names with their settings, e.g. {small: {width: 16}}"
        )
    tree["classifiers"] = {
        name: {**tree["classifier"], **_resolve(v, "classifiers", origins.of(["classifiers", name]))}
        for name, v in classifiers.items()
    }
    if isinstance(tree.get("methods"), dict):
        tree["methods"] = {
            name: _method(entry, tree["steering"], origins.of(["methods", name]))
            for name, entry in tree["methods"].items()
        }
    return validate(RunConfig, tree, origins.of)


def quick_overrides(config: str | Path) -> Overrides:
    """Return the overrides of a quick run of a configuration, under a name of its own."""
    name = f"{read_yaml(find_config(config)).get('name')}{QUICK}"
    return Overrides({"name": name, **load_preset("quick")}, "--quick")


def own_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides without what the run's name already says: the name itself, and the preset of a quick run."""
    said = load_preset("quick") if str(overrides.get("name", "")).endswith(QUICK) else {}
    return {key: value for key, value in overrides.items() if key != "name" and (key, value) not in said.items()}


def load_preset(name: str) -> dict[str, Any]:
    """Read configs/presets/<name>.yaml: dotted keys to values, for `overrides`."""
    return read_yaml(CONFIG_FOLDER / "presets" / f"{name}.yaml")


def find_config(path: str | Path, folder: Path = CONFIG_FOLDER, kind: str = "configuration") -> Path:
    """Return the file a user means by a path or by the bare name of a file in a folder of configurations."""
    candidates = [Path(path), folder / path, folder / f"{path}.yaml"]
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    names = sorted(p.stem for p in folder.glob("*.yaml"))
    raise UserError(
        f"no {kind} {str(path)!r};{did_you_mean(Path(path).stem, names)} "
        f"allowed: a YAML file or one of {', '.join(names)}"
    )


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; no, for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises UserError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no settings; expected 'key: value' lines")
    return tree


def _resolve(value: Any, folder: str, origin: str) -> dict[str, Any]:
    if isinstance(value, dict):
        base = value.get("base")
        own = {key: entry for key, entry in value.items() if key != "base"}
        return {**(_resolve(base, folder, origin) if base else {}), **own}
    if not isinstance(value, str):
        raise UserError(f"{origin}: every run needs '{folder}'; give a name from configs/{folder}/ or a mapping")
    target = _named(value, folder)
    if not is_file(target):
        names = sorted(p.stem for p in target.parent.glob("*.yaml"))
        raise UserError(
            f"{origin}: no {value!r} in configs/{folder}/;{did_you_mean(value, names)} allowed: {', '.join(names)}"
        )
    return read_yaml(target)


def _named(name: str, folder: str) -> Path:
    return CONFIG_FOLDER / folder / f"{name}.yaml"


def _section_file(name: str, folder: str) -> tuple[Path, dict[str, Any]]:
    path = _named(name, folder)
    return path, read_yaml(path)


def _method(values: Any, steering: dict[str, Any], origin: str) -> Any:
    """Spell out a method by its kind's rule; one without a known kind stays as it is, and validation refuses it."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind not in METHODS.names():
        return values
    return METHODS.load(kind).spelt_out(values, steering, partial(_resolve, origin=origin))


def _assign(tree: dict[str, Any], dotted: str, value: Any, origin: str) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UserError(f"{origin}: cannot set {dotted!r}: {key!r} is not a section")
    tree[last] = value
