"""What READMEs say is there: files they link to, commands and options they show, settings they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flows.cli import main
from l2s_core.config import RunConfig, Section
from l2s_core.registry import PROTOCOLS, SOURCES

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not {".venv", "assets"} & set(path.parts))
TABLES = {"data": SOURCES, "benchmark": PROTOCOLS}
SECTIONS = "backbone|data|inversion|capture|classifier|steering|benchmark|tolerance"


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=DOCUMENTS, ids=short)
def document(request) -> Path:
    return request.param


def code(text: str) -> Iterator[str]:
    """Yield the code of a Markdown text: spans, and lines of blocks."""
    yield from re.findall(r"`([^`\n]+)`", text)
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands(text: str) -> Iterator[list[str]]:
    """Yield the calls of `l2s` in a text, as words."""
    for line in code(text):
        for part in re.split(r"&&|;", line):
            words = re.sub(r"\s#.*| → .*", "", part.strip())
            if words.startswith("l2s "):
                yield shlex.split(words)[1:]


def unknown(words: list[str]) -> str | None:
    """Return what of a call the command line does not have; None if it has all."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.commands.get(words[0].rstrip(","))
        if found is None:
            return words[0]
        command, words = found, words[1:]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in options:
            return f"{command.name} {word}"
    return None


def fields(section: str) -> set[str]:
    """Return the keys of a section, of whatever source or protocol."""
    if section in TABLES:
        kinds: list[type[Section]] = [TABLES[section].load(name) for name in TABLES[section].names()]
    else:
        kinds = [RunConfig.model_fields[section].annotation]  # type: ignore[list-item]
    return {name for kind in kinds for name in kind.model_fields} | ({"base"} if section not in TABLES else set())


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8000


def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if not (document.parent / target.split("#")[0]).exists()]
    assert not missing


def test_every_command_and_option_exists(document: Path) -> None:
    assert not [problem for words in commands(document.read_text(encoding="utf-8")) if (problem := unknown(words))]


def test_every_setting_exists(document: Path) -> None:
    if document.name == "CHANGELOG.md":
        pytest.skip("it names keys of earlier versions")
    named = {
        (section, key)
        for line in code(document.read_text(encoding="utf-8"))
        for section, key in re.findall(rf"(?<![\w./-])({SECTIONS})\.([a-z_]+)\b(?!\.(?:py|yaml|json)|\()", line)
    }
    assert not {f"{section}.{key}" for section, key in named if key not in (*fields(section), "py", "yaml", "json")}


def test_every_configuration_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:configs|l2s_core|flows|tasks|tests)/[\w./-]+)`", text):
        assert "NAME" in path or (ROOT / path).exists(), path


def test_the_checks_can_fail() -> None:
    assert unknown(["reproduc"]) == "reproduc" and unknown(["reproduce", "--quik"]) == "reproduce --quik"
    assert unknown(["geneval", "export", "mini-sd", "x", "--method", "main"]) is None
    assert "steps" in fields("backbone") and "stepz" not in fields("backbone") and "forms" in fields("benchmark")
    assert list(commands("`l2s up && l2s down` and\n\n    l2s ui  # MLflow\n")) == [["up"], ["down"], ["ui"]]
