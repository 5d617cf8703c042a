"""The second tokenizer and text encoder of the small world, in T5's own classes, as FLUX has them.

Pretrained on sentences alone and then frozen. T5 sees the whole sentence at every token, so its task is
context recall: name, at each token, the words up to it and, apart, the words from it on. That keeps who
stands before and who stands after the relation word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from l2s_core.miniworld.training.text import balanced_loss, sentences
from l2s_core.miniworld.world.captions import LANGUAGE_COUNTS
from l2s_core.miniworld.world.tokenizers import capitalised

CAPITALS = 0.25  # share of sentences that begin with a capital


def build_encoder(tokenizer: T5Tokenizer, width: int, layers: int, heads: int) -> T5EncoderModel:
    """Create the untrained encoder (gated GELU, relative positions, as T5 v1.1)."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // heads,
        d_ff=2 * width,
        num_layers=layers,
        num_heads=heads,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=tokenizer.model_max_length,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config)


class ContextRecall(nn.Module):
    """A text encoder with two linear heads.

    At each token they name the words before it and after it (itself included).
    """

    def __init__(self, encoder: T5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.Linear(encoder.config.d_model, 2 * encoder.config.vocab_size)

    def forward(self, ids_BK: Tensor) -> Tensor:
        """Return logits (B, K, 2, V)."""
        return self.heads(self.encoder(ids_BK).last_hidden_state).unflatten(-1, (2, -1))


def tokenize(tokenizer: T5Tokenizer, texts: list[str]) -> Tensor:
    """Return token ids (B, K), padded to the tokenizer's window as the pipeline pads."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def batch(
    tokenizer: T5Tokenizer,
    seed: int,
    step: int,
    size: int,
    counts: Sequence[float] = LANGUAGE_COUNTS,
    only_a: float = 0.0,
) -> Tensor:
    """Return token ids of `size` sentences, a function of (seed, step) alone; the rest as in `language_caption`."""
    texts = sentences(seed, step, size, counts, only_a)
    return tokenize(tokenizer, [capitalised(text) if i < CAPITALS * size else text for i, text in enumerate(texts)])


def targets(ids_BK: Tensor, vocabulary: int) -> Tensor:
    """Return which words stand up to, and from, each token: 0 or 1, (B, K, 2, V)."""
    one_hot = nn.functional.one_hot(ids_BK, vocabulary)
    before = one_hot.cumsum(1)
    after = one_hot.flip(1).cumsum(1).flip(1)
    return torch.stack([before, after], dim=2).clamp(max=1)


def loss(model: ContextRecall, ids_BK: Tensor) -> Tensor:
    """Multi-label cross-entropy of both recalls, positives and negatives balanced."""
    logits = model(ids_BK).float()
    return balanced_loss(logits, targets(ids_BK, logits.shape[-1]).float())


@torch.no_grad()
def recall(model: ContextRecall, ids_BK: Tensor) -> float:
    """Share of the wanted words that the heads name (probability above one half)."""
    named = model(ids_BK) > 0
    wanted = targets(ids_BK, named.shape[-1]) > 0
    return float((named & wanted).sum() / wanted.sum())
