"""Whether attention centroids tell where objects will be: what a loss on centroids takes for granted, measured."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from l2s_core.backbones.load import load_backbone
from l2s_core.config import load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.recorder import Recorder
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.protocols.relation_rule import kept_boxes
from l2s_core.prompts.prompt import Phrases
from l2s_core.steering.objectives import centroids

ITEMS = {"benchmark": "dev", "benchmark.prompts": 16, "benchmark.seeds": 1}
AXES = ("horizontal", "vertical")


def centroid_correlations(name: str) -> tuple[int, dict[int, list[float]]]:
    """Count the plain development images that show both objects, and correlate over these.

    By captured step there is one correlation an axis.

    It is that of the offset between the two phrases' attention centroids (averaged over all channels, as the centroid
    method does) with the offset between the two objects that the judge finds in the final image.
    """
    run = load_run_config(name, ITEMS)
    backbone = load_backbone(run.backbone, "cpu")
    items = benchmark_items(run)
    sampler = Sampler.of(backbone, run)
    source = map_source(backbone, run.capture, run.backbone.steps)
    record = partial(Recorder, source=source, dtype=torch.float32)
    sampled = sampler([i.prompt for i in items], [i.seed for i in items], record)
    (recorder,) = sampled.observers
    offsets = {}
    for step, maps_BOMGG in recorder.maps.items():
        centroid_BO2 = centroids(maps_BOMGG).mean(2)
        offsets[step] = (centroid_BO2[:, 0] - centroid_BO2[:, 1]).numpy()
    found = load_judge(run.benchmark.judge).detect(sampled.images.numpy())
    shown = [
        _offset(item.prompt, detections, run.benchmark.min_score) for item, detections in zip(items, found, strict=True)
    ]
    there = np.array([offset is not None for offset in shown])
    shown_N2 = np.array([offset for offset in shown if offset is not None])
    by_step = {
        step: [float(np.corrcoef(offset_B2[there, axis], shown_N2[:, axis])[0, 1]) for axis in range(2)]
        for step, offset_B2 in offsets.items()
    }
    return int(there.sum()), by_step


def _offset(prompt: Phrases, detections: list[Detection], min_score: float) -> tuple[float, float] | None:
    """Centre of the subject's best box minus the object's, pixels; None where one was not found."""
    boxes = kept_boxes(detections, min_score)
    if not all(geneval_name(name) in boxes for name in prompt.objects):
        return None
    a, b = (boxes[geneval_name(name)][0] for name in prompt.objects)
    return (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
