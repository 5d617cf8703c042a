"""The whole chain for real: Prefect, MLflow, Parquet, the shipped models; killed, resumed, damaged, unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from helpers.servers import l2s_here
from helpers.small_run import numbers, options, reproduce, shards

from l2s_core.dataset.reader import MapDataset

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_a_killed_run_goes_on_and_gives_the_same_numbers(killed_and_resumed: Path, undisturbed: Path) -> None:
    assert numbers(killed_and_resumed) == numbers(undisturbed)


def test_an_unchanged_run_does_nothing_again(killed_and_resumed: Path) -> None:
    before = shards(killed_and_resumed)
    done = reproduce(killed_and_resumed)
    assert done.returncode == 0 and shards(killed_and_resumed) == before
    assert "relation correct" in done.stdout and "report.html" in done.stdout
    assert re.search(r"stage 2 of 10, invert scenes: 16/16 scenes", done.stderr)
    assert len(done.stderr.splitlines()) < 40  # a log file gets lines, not a bar
    assert "  nothing: the same settings and the same figures" in done.stdout.splitlines()


def test_the_report_stands_alone(killed_and_resumed: Path) -> None:
    folder = killed_and_resumed / "reports" / "tiny"
    page = (folder / "report.html").read_text()
    shown = numbers(killed_and_resumed)["failures"]["shown"]
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 6 + len(shown)
    assert not re.search(r"""(src|href)=["']?https?:""", page) and "<script" not in page
    summary = numbers(killed_and_resumed)
    assert summary["plain"]["correct"]["count"] == 6 and set(summary["classifiers"]) == {
        "main",
        "true-only",
        "sampled",
    }
    assert (folder / "grid.png").stat().st_size > 10_000


def test_mlflow_tells_classifiers_apart_by_what_they_do_to_images(killed_and_resumed: Path) -> None:
    home = killed_and_resumed
    uri = f"sqlite:///{home / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("learn-to-steer")
    runs = {
        run.data.tags["l2s.classifier_name"]: run
        for run in client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
        if "l2s.classifier_name" in run.data.tags
    }
    assert set(runs) == {"main", "true-only", "sampled"}
    run = runs["main"]
    summary = numbers(home)
    assert run.data.metrics["bench/steered/correct"] == pytest.approx(
        summary["classifiers"]["main"]["steered"]["correct"]["rate"], abs=1e-4
    )
    assert run.data.metrics["plain/correct"] == pytest.approx(summary["plain"]["correct"]["rate"], abs=1e-4)
    assert {
        "test/accuracy_true_prompts",
        "test/accuracy_wrong_prompts",
        "test/accuracy_step_1",
        "test/accuracy_left_of",
    } <= set(run.data.metrics)
    assert run.data.params["classifier.kind"] == "conv"
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 3
    assert {d.dataset.name.partition("-")[0] for d in run.inputs.dataset_inputs} == {"inverted"}
    assert {d.dataset.name.partition("-")[0] for d in runs["sampled"].inputs.dataset_inputs} == {"trajectories"}
    assert {"confusion.png", "result.json"} <= {f.path for f in client.list_artifacts(run.info.run_id)}
    champion = client.get_model_version_by_alias("relation-mini-sd", "champion-inverted")
    assert "attention maps of" in champion.description and "Test accuracy" in champion.description
    model = mlflow.pyfunc.load_model("models:/relation-mini-sd@champion-inverted")
    batch = next(MapDataset(sorted(home.glob("stages/maps/*/*.parquet")), split="test").batches(5))
    probabilities = model.predict({"maps": batch.maps_BOMGG.numpy(), "capture_index": batch.capture_index_B.numpy()})
    assert probabilities.shape == (5, 4) and np.allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_damaged_shard_is_named_and_rebuilt_on_request(prefect_server: None, killed_and_resumed: Path) -> None:
    before = numbers(killed_and_resumed)
    shard = sorted(killed_and_resumed.glob("stages/maps/*/*.parquet"))[1]
    shard.write_bytes(shard.read_bytes()[:5000])
    done = l2s_here(*options(), home=killed_and_resumed)
    assert done.exit_code == 2 and f"{shard.name} has no checksum" in done.stderr and "--rebuild" in done.stderr
    assert "Traceback" not in done.stderr and shard.stat().st_size == 5000
    rebuilt = reproduce(killed_and_resumed, "--rebuild")  # by a process of its own, as the first: the same bits
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert numbers(killed_and_resumed) == before


def test_zero_samples_after_the_psnr_filter(prefect_server: None, killed_and_resumed: Path) -> None:
    done = l2s_here(*options("--set", "inversion.min_psnr=98"), home=killed_and_resumed)
    assert done.exit_code == 2 and "zero records left in the training set; lower inversion.min_psnr" in done.stderr
    assert "Traceback" not in done.stderr
