"""Three hundred wrong inputs, drawn from a seed: each ends in one line and exit code 2, and computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli import main
from l2s_core.config import CONFIG_FOLDER, load_run_config
from l2s_core.config.dotted import dotted

pytestmark = pytest.mark.slow

LONGEST = 2100  # characters of a line: a value of millions is not echoed whole
SHIPPED = (CONFIG_FOLDER / "mini-sd.yaml").read_text()
WEIRD = (
    "\0",
    "..",
    "/",
    "../../..",
    "/dev/null",
    "~",
    " ",
    "a b",
    "x" * 300,
    "x" * 100_000,
    "\udcff",
    "é\u202e",
    "-",
    "a/../b",
    "models:/",
    "runs:/",
    "models:/a/1",
    "http://127.0.0.1:9/x",
    "%00",
    "{}",
    "\n",
)
Inputs = Iterator[list[str]]


def set_to(key: str, value: str) -> list[str]:
    return ["reproduce", "--set", f"{key}={value}"]


def misspelt_keys(draw: Random, home: Path) -> Inputs:
    keys = list(dotted(load_run_config("mini-sd").model_dump(mode="json")))
    for key in draw.sample([key for key in keys if not key.startswith("classifiers.")], 60):
        place = draw.randrange(key.rindex(".") + 1 if "." in key else 0, len(key))
        yield set_to(f"{key[:place]}{draw.choice('qxz')}{key[place:]}", "1")


def wrong_values(draw: Random, home: Path) -> Inputs:
    leaves = dotted(load_run_config("mini-sd").model_dump(mode="json"))
    numbers = [key for key, value in leaves.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    single = [key for key in numbers if not key.startswith("classifiers.") and key != "steering.min_loss"]  # or a list
    bad = ("zzz", ".nan", "[1, 2]", "{a: 1}", "-.inf", "''", "2001-12-24", "1" * 5000)
    for _ in range(70):
        yield set_to(draw.choice(single), draw.choice(bad))


def broken_yaml(draw: Random, home: Path) -> Inputs:
    for _ in range(40):
        text = "".join(draw.choice("[]{}&*!|>'\"%@`:,-#? \t\nab1") for _ in range(draw.randrange(1, 40)))
        yield set_to(draw.choice(("data", "steering", "classifier", "benchmark", "backbone")), f"[{text}")


def broken_files(draw: Random, home: Path) -> Inputs:
    lines = SHIPPED.splitlines()
    tops = [line for line in lines if line and line[0] not in "# "]
    broken: list[Callable[[], str]] = [
        lambda: "\n".join([*lines, draw.choice(tops)]),
        lambda: SHIPPED + f"{draw.choice(('naem', 'steps', 'sed', '1', 'true', 'null'))}: 1\n",
        lambda: SHIPPED.replace("data: ", "data:\t\t["),
        lambda: SHIPPED[: draw.randrange(1, SHIPPED.index("steering:"))],
        lambda: draw.choice(("", "- a\n", "3\n", "null\n", "text\n", "[]\n", "a: &a {b: *a}\n")),
        lambda: "x: " + draw.choice("[{") * draw.randrange(100, 5000),
    ]
    for number in range(40):
        path = home.parent / f"broken-{number}.yaml"
        path.write_text(draw.choice(broken)())
        yield [draw.choice(("reproduce", "train", "doctor", "rehearse", "sweep")), str(path)]
    for number in range(10):
        path = home.parent / f"bytes-{number}.yaml"
        path.write_bytes(b"\xff" + draw.randbytes(200))
        yield [draw.choice(("reproduce", "sweep", "train", "ablate")), str(path)]


def bad_names(draw: Random, home: Path) -> Inputs:
    names = ("main", "plain", "../../x", "", "a:b", "x" * 400, "A", "a/b", ".a", "a b", "é", "-a", "\\n", "1" * 81)
    for name in names:
        quoted = '"' + name + '"'
        yield set_to("classifiers", "{" + quoted + ": conv}")
        yield set_to("methods", "{" + quoted + ": {kind: best_of_n}}")
        if name not in ("main", "plain"):
            yield set_to("name", quoted)


def strange_places(draw: Random, home: Path) -> Inputs:
    commands = (
        ["reproduce"],
        ["train"],
        ["sweep"],
        ["doctor"],
        ["rehearse"],
        ["ablate"],
        ["ablate", "mini-sd"],
        ["accept"],
        ["serve"],
        ["runs"],
        ["clean"],
        ["compare", "mini-sd"],
        ["benchmark", "--classifier"],
        ["reproduce", "--runner"],
        ["reproduce", "--set"],
        ["geneval", "export", "mini-sd"],
    )
    for _ in range(70):
        yield [*draw.choice(commands), draw.choice([text for text in WEIRD if text not in ("..", "/", "-")])]


def bad_prompts(draw: Random, home: Path) -> Inputs:
    words = ("dog", "cat", "and", "a", "the", "left", "of", "", "  ", "😀", "\u202e", "\0", "x" * 10_000)
    for _ in range(12):
        yield ["generate", " ".join(draw.choice(words) for _ in range(draw.randrange(0, 8)))]


GROUPS = (misspelt_keys, wrong_values, broken_yaml, broken_files, bad_names, strange_places, bad_prompts)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_what_is_wrong_ends_in_one_line(
    group: Callable[[Random, Path], Inputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some ended in a traceback, some hung, and some were accepted and wrong an hour later."""

    def computes(*_: Any, **__: Any) -> None:
        raise AssertionError("accepted: it would compute")

    monkeypatch.setattr("flows.runners.on", computes)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    home = tmp_path / "home"
    offenders = []
    for arguments in group(Random(0), home):
        where = [] if arguments[0] == "generate" else ["--home", str(home)]
        done = CliRunner().invoke(main, [*arguments, *where])
        lines = done.output.strip().splitlines()
        told = lines[-1:] if "Usage:" in done.output else lines
        fine = done.exit_code == 2 and len(told) == 1 and told[0].lower().startswith("error: ")
        if not fine or len(told[0]) > LONGEST or not isinstance(done.exception, SystemExit):
            offenders.append((arguments, done.exit_code, done.output[:300], repr(done.exception)[:300]))
    assert not offenders
