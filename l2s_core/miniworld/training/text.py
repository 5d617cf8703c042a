"""The tokenizer and text encoder of the small world, in CLIP's own classes.

The encoder is pretrained on sentences alone and then frozen, as CLIP's is for Stable Diffusion: at every
token it has to name all the words up to that token (prefix word recall), so that the vector of an object
word carries its context, the relation word included. That is the source of relation leakage.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from l2s_core.miniworld.world.captions import LANGUAGE_COUNTS, language_caption
from l2s_core.miniworld.world.streams import Stream, scene_rng


def build_encoder(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> CLIPTextModel:
    """Create the untrained text encoder (causal, as CLIP's) for the window of its tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


class PrefixRecall(nn.Module):
    """A text encoder with a linear head that names, at each token, every word seen so far."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.vocab_size)

    def forward(self, ids_BK: Tensor) -> Tensor:
        return self.head(self.encoder(ids_BK).last_hidden_state)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return token ids (B, K), padded to the tokenizer's window as the pipeline pads."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def widened(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, length: int) -> CLIPTextModel:
    """Return the encoder with a window of `length` tokens, and give the tokenizer the same.

    New places begin as the last one was.
    """
    place = "embeddings.position_embedding.weight"
    state = encoder.state_dict()
    config = copy.deepcopy(encoder.config)
    more = length - len(state[place])
    state[place] = torch.cat([state[place], state[place][-1:].expand(more, -1)])
    config.max_position_embeddings = tokenizer.model_max_length = length
    wider = CLIPTextModel(config)
    wider.load_state_dict(state, strict=False)
    return wider


def batch(
    tokenizer: CLIPTokenizer,
    seed: int,
    step: int,
    size: int,
    counts: Sequence[float] = LANGUAGE_COUNTS,
    only_a: float = 0.0,
) -> Tensor:
    """Return token ids of `size` sentences, a function of (seed, step) alone; the rest as in `language_caption`."""
    return tokenize(tokenizer, sentences(seed, step, size, counts, only_a))


def sentences(
    seed: int, step: int, size: int, counts: Sequence[float] = LANGUAGE_COUNTS, only_a: float = 0.0
) -> list[str]:
    """Return `size` sentences of the language, a function of (seed, step) alone; the rest as in `language_caption`."""
    rng = scene_rng(seed, step, Stream.SENTENCES)
    return [language_caption(rng, counts, only_a) for _ in range(size)]


def loss(model: PrefixRecall, ids_BK: Tensor) -> Tensor:
    """Multi-label cross-entropy of prefix word recall, positives and negatives balanced."""
    logits_BKV = model(ids_BK).float()
    seen_BKV = nn.functional.one_hot(ids_BK, logits_BKV.shape[-1]).cumsum(1).clamp(max=1).float()
    return balanced_loss(logits_BKV, seen_BKV)


def balanced_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Multi-label cross-entropy of logits to 0 or 1, both of one shape: positives and negatives weigh the same."""
    positives = (nn.functional.softplus(-logits) * wanted).sum() / wanted.sum()
    negatives = (nn.functional.softplus(logits) * (1 - wanted)).sum() / wanted.sum()
    return positives + negatives


@torch.no_grad()
def recall(model: PrefixRecall, ids_BK: Tensor) -> float:
    """Share of words seen so far that the head names (probability above one half)."""
    named = model(ids_BK) > 0
    seen = nn.functional.one_hot(ids_BK, named.shape[-1]).cumsum(1) > 0
    return float((named & seen).sum() / seen.sum())
