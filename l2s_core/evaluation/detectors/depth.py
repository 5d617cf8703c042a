"""How near the things in an image are: a depth model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from l2s_core.backbones.complete import load_complete
from l2s_core.backbones.folder import find_folder, fingerprint_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Box, Detection
from l2s_core.evaluation.detectors.pixels import model_pixels, read_pixel_settings
from l2s_core.storage.files import read_json

KINDS = ("DepthAnythingForDepthEstimation", "DPTForDepthEstimation")
METRIC = "metric"  # a configuration's word for distances instead of their inverse
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class PlacedDetection(Detection):
    """A find and how near it is: the mean nearness of its box, from 0, the image's farthest point, to 1, its nearest.

    Not a number for a box without area.
    """

    nearness: float


def depth_folder(model: str) -> Path:
    """Return the folder of a depth model; raises UserError when it is missing or holds another class."""
    folder = find_folder("depth model", model, "config.json", (), f"a folder with a {' or a '.join(KINDS)}")
    _kind(folder)
    return folder


def depth_fingerprint(model: str) -> str:
    """Return a digest of a depth model's files; raises UserError as `depth_folder` does."""
    return fingerprint_of(depth_folder(model))


def _kind(folder: Path) -> str:
    stated: str = (read_json(folder / "config.json").get("architectures") or ["nothing"])[0]
    if stated not in KINDS:
        raise UserError(f"{folder} holds a {stated}; allowed as depth model: {', '.join(KINDS)}")
    return stated


class DepthReader:
    """Reads nearness off images, with Depth Anything (arXiv 2401.10891) or DPT (arXiv 2103.13413).

    Their output is inverse depth, up to scale and shift; that of a metric model is distance, and counts from the other
    end. Raises UserError for a folder that holds no such model, or not all of one.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.model = load_complete(_kind(folder), folder, device)
        self.pixels = read_pixel_settings(folder)
        self.device = device
        self.metric = getattr(self.model.config, "depth_estimation_type", None) == METRIC

    @torch.no_grad()
    def nearness(self, images: np.ndarray) -> Tensor:
        """Return nearness_NHW of uint8 images (N, H, W, 3): from 0, the farthest point of an image, to 1, its nearest.

        The model's output is brought to that range, and then to the image's size, as in T2I-CompBench's 3D-spatial
        task; one that is the same everywhere is 0.
        """
        parts = []
        for first in range(0, len(images), BATCH):
            pixels = model_pixels(images[first : first + BATCH], self.pixels, self.device)
            depth_Nhw = self.model(pixel_values=pixels).predicted_depth.float()
            depth_Nhw = -depth_Nhw if self.metric else depth_Nhw
            low_N11, high_N11 = depth_Nhw.amin((1, 2), keepdim=True), depth_Nhw.amax((1, 2), keepdim=True)
            scaled_Nhw = (depth_Nhw - low_N11) / (high_N11 - low_N11).clamp_min(torch.finfo(torch.float32).tiny)
            size = images.shape[1:3]
            parts.append(interpolate(scaled_Nhw[:, None], size=size, mode="bilinear", align_corners=True)[:, 0].cpu())
        return torch.cat(parts) if parts else torch.zeros(images.shape[:3])

    def place(self, images: np.ndarray, found: Sequence[Sequence[Detection]]) -> list[list[Detection]]:
        """Return what was found in each uint8 image (N, H, W, 3), every find with its nearness."""
        return [
            [PlacedDetection(**asdict(find), nearness=mean_in(nearness_HW, find.box)) for find in finds]
            for nearness_HW, finds in zip(self.nearness(images), found, strict=True)
        ]


def mean_in(values_HW: Tensor, box: Box) -> float:
    """Return the mean of values in a box of pixels, not a number where it has none."""
    x0, y0, x1, y1 = map(int, box)
    return float(values_HW[y0:y1, x0:x1].mean())
