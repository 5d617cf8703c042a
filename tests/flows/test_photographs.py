"""A run as photographs have it.

Own images, a file of GenEval's prompts, a judge of an open vocabulary, GenEval's scorer out and in.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.models import tiny_owl
from helpers.small_run import SETTINGS, reproduce
from PIL import Image

from flows.cli import main
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.relations import PLANAR

pytestmark = [pytest.mark.server, pytest.mark.slow]

EACH = 4  # images a relation: train, val and test of the small run
TAGS = "[position, two_object]"


def metadata() -> list[dict]:
    """Four prompts of either task, and one of a third that is not asked for."""
    rows = [{"tag": "counting", "include": [{"class": "dog", "count": 2}], "prompt": "a photo of two dogs"}]
    for name, relation in zip(("cat", "car", "boat", "bird"), PLANAR, strict=True):
        include = [{"class": name, "count": 1}, {"class": "dog", "count": 1}]
        rows.append({"tag": "two_object", "include": include, "prompt": f"a photo of a {name} and a dog"})
        placed = [include[0], {**include[1], "position": [relation, 0]}]
        rows.append({"tag": "position", "include": placed, "prompt": f"a photo of a dog {relation} a {name}"})
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, list[str]]:
    """A home with the finished run, and the settings that make it."""
    folder = tmp_path_factory.mktemp("photographs")
    home = tmp_path_factory.mktemp("home")
    (folder / "judge").mkdir()
    tiny_owl(folder / "judge")
    lines = []
    for number, relation in enumerate(PLANAR * EACH):
        layout = sample_layout(scene_rng(7, number, 0), relation=relation, counts=(0.0, 1.0))
        Image.fromarray(render(layout)).save(folder / f"{number}.png")
        subject, object_ = (p.name for p in layout.placements)
        lines.append(
            json.dumps({"image": f"{number}.png", "subject": subject, "relation": relation, "object": object_})
        )
    (folder / "scenes.jsonl").write_text("\n".join(lines))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metadata()))
    settings = {
        "data": f"{{source: jsonl, path: {folder}, train: 2, val: 1, test: 1}}",
        "classifiers": "{}",
        "benchmark.protocol": "geneval",
        "benchmark.file": folder / "metadata.jsonl",
        "benchmark.tags": TAGS,
        "benchmark.judge": folder / "judge",
        "benchmark.seeds": 2,
        "benchmark.prompts": 4,
    }
    extra = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = reproduce(home, *extra)
    assert done.returncode == 0, done.stderr
    return home, [*(part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")), *extra]


def test_a_run_is_judged_by_its_protocol(run) -> None:
    home, _ = run
    summary = json.loads((home / "reports" / "tiny" / "summary.json").read_text())
    assert summary["plain"]["correct"]["count"] == 16 and set(summary["plain"]["by_prompt_group"]) == {
        "position",
        "two_object",
    }
    assert summary["judge"] is None and summary["quality"] is None and summary["official"] == {}
    assert len(list((home / "judged").glob("*.jsonl"))) == 1  # every image is shown to the judge once
    methods = {
        path.parent.name: json.loads(path.read_text())["images"]
        for path in (home / "stages" / "verdicts").glob("*/verdicts.json")
    }
    assert len(methods) == 2
    for rows in methods.values():
        assert all(row["gradients"] == row["checks"] == 0 for row in rows if row["asks_for"] == "two_object")
    assert sum(row["gradients"] for rows in methods.values() for row in rows) > 0


def test_images_go_to_genevals_scorer_and_its_results_into_the_report(run, tmp_path) -> None:
    home, settings = run
    invoked = CliRunner().invoke(
        main, ["geneval", "export", "mini-sd", str(tmp_path / "out"), *settings, "--home", str(home)]
    )
    assert invoked.exit_code == 0 and "16 new images of 16" in invoked.output
    results = []
    for metadata in sorted((tmp_path / "out").glob("*/metadata.jsonl")):
        row = json.loads(metadata.read_text())
        for sample in sorted(metadata.parent.glob("samples/*.png")):
            results.append(
                {
                    "filename": str(sample),
                    "tag": row["tag"],
                    "prompt": row["prompt"],
                    "correct": row["tag"] == "position",
                    "reason": "",
                }
            )
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    invoked = CliRunner().invoke(
        main, ["geneval", "import", "mini-sd", str(tmp_path / "results.jsonl"), *settings, "--home", str(home)]
    )
    assert invoked.exit_code == 0 and "1.00 (0.68-1.00)" in invoked.output
    assert reproduce(home, *settings[2 * len(SETTINGS) :]).returncode == 0
    page = (home / "reports" / "tiny" / "report.html").read_text()
    assert "GenEval's own scorer" in page and "need not be of the same prompts" in page
