"""The command: quick help, and one line with exit code 2 for every mistake a user can make."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main

HEAVY = ("torch", "prefect", "mlflow", "diffusers", "transformers", "pandas", "numpy")


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, flows.cli; sys.exit(any(name in sys.modules for name in {HEAVY}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_help_lists_every_command_in_a_whole_sentence_and_no_command_says_how_to_begin() -> None:
    code, output = run("--help")
    assert code == 0 and not re.search(r"[a-z,](…|\.\.\.)", output)
    listed = " ".join(output.split())
    for name, command in main.commands.items():
        first = " ".join((command.help or "").split()).split(". ")[0].split("-")[0].rstrip(".")
        assert f"{name} {first}" in listed
    code, output = run()
    assert code == 0 and 'l2s generate "a dog to the left of a cat"' in output and "l2s --help" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "mini-ds"], "did you mean 'mini-sd'"),
        (["reproduce", "--set", "steering.updatez=3"], "unknown key 'steering.updatez'; did you mean 'updates'"),
        (["reproduce", "--set", "updates"], "'updates' is not KEY=VALUE"),
        (["reproduce", "--set", "backbone.model=nowhere"], "no model 'nowhere'"),
        (["reproduce", "--set", "benchmark.judge=mini-sec"], "no judge 'mini-sec'"),
        (["reproduce", "--set", "data.held_out_objects=[zebra, bote]"], "unknown object 'bote'; did you mean 'boat'"),
        (["reproduce", "--set", "benchmark.prompts=9999"], "benchmark.prompts is 9999"),
        (["train", "--set", "classifier.kind=con"], "'conv' or 'transformer'"),
        (["benchmark", "--classifier", "nowhere"], "no classifier 'nowhere'; allowed: a folder"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, output = run(*arguments, "--home", tmp_path)
    assert code == 2 and message in output
    assert len(output.strip().splitlines()) == 1 and output.startswith("error: ") and "Traceback" not in output


def test_a_prompt_that_the_text_window_cuts_off_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    long = " ".join(["very"] * 30)
    relation = {"subject": "dog", "relation": "above", "object": f"{long} old cat"}
    prompt = {"prompt": f"a photo of a dog above a {long} old cat", "triplets": [relation]}
    (tmp_path / "long.jsonl").write_text(json.dumps(prompt) + "\n")
    benchmark = f"benchmark={{protocol: several, file: {tmp_path / 'long.jsonl'}, prompts: 1}}"
    code, output = run("reproduce", "mini-flux", "--set", benchmark, "--home", tmp_path)
    assert code == 2 and "is cut off by the text window of 28 tokens" in output
    assert len(output.strip().splitlines()) == 1 and output.startswith("error: ")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a dog and a cat", "no relation in the prompt"),
        ("a dog to the left of", "no relation in the prompt"),
        ("a dog above a cta", "unknown object 'cta'; did you mean 'cat'"),
    ],
)
def test_prompts_that_cannot_be_steered(tmp_path: Path, prompt: str, message: str) -> None:
    code, output = run("generate", prompt, "--out", tmp_path / "x.png")
    assert code == 2 and message in output and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.jpg"], "--out is 'x.jpg'; give a name that ends in .png"),
        (["--out", "o.txt"], "give a name that ends in .png"),
        (["--out", "x" * 250 + ".png"], "of at most 200 characters"),
        (["--first-seed", str(2**64)], "is not in the range"),
        (["--first-seed", "1" * 31], "is not in the range"),
    ],
)
def test_what_generate_cannot_write_or_draw_is_known_at_once(arguments: list[str], message: str) -> None:
    """A file x.jpg held a PNG, and a seed of 2**64 ended in a traceback after the model was loaded."""
    code, output = run("generate", "a dog above a cat", *arguments)
    assert code == 2 and message in output and "Traceback" not in output


def test_an_unwritable_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = run("reproduce", "--home", tmp_path / "file")
    assert code == 2 and "cannot write to" in output and "choose a writable folder" in output


def test_cuda_without_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, output = run("reproduce", "--set", "device=cuda", "--home", tmp_path)
    assert code == 2 and "device: cuda" in output


@pytest.mark.slow
def test_an_unreachable_tracking_server(tmp_path: Path) -> None:
    """In a process of its own: MLflow reads its limits on retries when imported."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "L2S_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "reproduce", "--quick"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "cannot reach the MLflow store http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_generate_makes_a_picture_without_what_servers_tracking_and_figures_need(tmp_path: Path) -> None:
    """Their imports would be half of the wait for it; the garbage collector works again for the images themselves."""
    picture = tmp_path / "x.png"
    code = (
        "import gc, sys\n"
        "from flows.cli import main\n"
        f"main(['generate', 'a dog above a cat', '--seeds', '1', '--out', {str(picture)!r}], standalone_mode=False)\n"
        "print({'prefect', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules), gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert "steered:" in done.stdout and done.stdout.endswith("set() True\n"), done.stderr
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize("name", ["reproduce", "train", "benchmark", "sweep", "ablate"])
def test_what_a_damaged_output_asks_for_is_an_option(name: str) -> None:
    assert "--rebuild" in run(name, "--help")[1]
