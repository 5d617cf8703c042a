"""CLIPScore: how well an image goes with its prompt, says a CLIP model (Hessel et al. 2021, arXiv 2104.08718)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from l2s_core.backbones.complete import load_complete, require_vocabulary
from l2s_core.backbones.folder import find_folder, fingerprint_of
from l2s_core.errors import UserError, first_line
from l2s_core.storage.files import read_json

WEIGHT = 100.0  # the paper's w is 2.5: its CLIP-S is this score / 40
BATCH = 16
MODEL = "CLIPModel"


def load_clip(model: str, *, device: str = "cpu") -> ClipScorer:
    """Load a scorer from a folder or the hub's cache; raises UserError where it is missing, incomplete or another's."""
    return ClipScorer(clip_folder(model), device=device)


def clip_fingerprint(model: str) -> str:
    """Return a digest of a CLIP model's files, its vocabulary's included; raises UserError as `clip_folder` does."""
    folder = clip_folder(model)
    return fingerprint_of(folder)


def clip_folder(model: str) -> Path:
    """Return the folder of a scorer's model; raises UserError when it is missing or holds another class."""
    folder = find_folder(
        "CLIP model", model, "config.json", (), f"a folder with a {MODEL}, its tokenizer and image processor"
    )
    stated = (read_json(folder / "config.json").get("architectures") or ["nothing"])[0]
    if stated != MODEL:
        raise UserError(f"{folder} holds a {stated}, expected {MODEL}")
    return folder


class ClipScorer:
    """The score 100 · max(cos(image, text), 0) of a CLIPModel, with the tokenizer and image processor of its folder."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        from transformers import CLIPImageProcessorPil, CLIPTokenizer

        require_vocabulary(folder)
        try:
            self.model = load_complete(MODEL, folder, device)
            self.device = device
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            # One backend: others resize differently.
            self.processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except UserError:
            raise
        except Exception as error:  # the library raises many kinds for one cause: a file it cannot read
            raise UserError(
                f"cannot load {folder}: {first_line(error)}; a file is missing or damaged, fetch it again"
            ) from None

    def scores(self, images: np.ndarray, texts: Sequence[str], *, batch: int = BATCH) -> np.ndarray:
        """Return score_N, from 0 to 100, of uint8 images (N, H, W, 3) with one text each.

        Longer texts are cut at CLIP's window. Texts go in as they are, without the paper's "A photo depicts". A score
        does not depend on its batch, to rounding. Raises ValueError for anything but such images, and where images
        and texts do not pair up.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"CLIPScore is of uint8 images (N, H, W, 3); got {images.dtype} {images.shape}")
        if len(images) != len(texts) or not len(texts):
            raise ValueError(
                f"CLIPScore needs one text an image, and at least one; got {len(images)} images and {len(texts)} texts"
            )
        parts = [self._scores(images[i : i + batch], texts[i : i + batch]) for i in range(0, len(texts), batch)]
        return np.concatenate(parts)

    @torch.no_grad()
    def embed_images(self, images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """Return embeddings_ND, of length 1, of uint8 images (H, W, 3) that may differ in size, in one batch."""
        pixels = self.processor(images=list(images), input_data_format="channels_last", return_tensors="pt")[
            "pixel_values"
        ]
        return normalize(
            self.model.visual_projection(self.model.vision_model(pixel_values=pixels.to(self.device)).pooler_output),
            dim=-1,
        )

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings_ND, of length 1, of texts in one batch; longer ones are cut at CLIP's window."""
        window = self.model.config.text_config.max_position_embeddings
        words = self.tokenizer(list(texts), padding=True, truncation=True, max_length=window, return_tensors="pt")
        words = {name: words[name].to(self.device) for name in ("input_ids", "attention_mask")}
        return normalize(self.model.text_projection(self.model.text_model(**words).pooler_output), dim=-1)

    def _scores(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        return (
            WEIGHT
            * cosine_similarity(self.embed_images(images), self.embed_texts(texts)).clamp_min(0).double().cpu().numpy()
        )


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """A mean score and its standard error, 0 for a single image."""

    mean: float
    error: float

    @classmethod
    def of(cls, scores_N: np.ndarray) -> ClipScore:
        """Return that of the scores of one image or more."""
        error = float(np.std(scores_N, ddof=1)) / sqrt(len(scores_N)) if len(scores_N) > 1 else 0.0
        return cls(mean=float(np.mean(scores_N)), error=error)
