"""The tokenizer and text encoder of the small world, in CLIP's own classes.

The encoder is pretrained on sentences alone and then frozen, as CLIP's is for Stable Diffusion: at every
token it has to name all the words up to that token (prefix word recall), so that the vector of an object
word carries its context, the relation word included. That is the source of relation leakage.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from l2s_core.miniworld.captions import corpus, language_caption

LENGTH = 24  # text window, tokens
START, END = "<|startoftext|>", "<|endoftext|>"
STREAM = 23


def build_tokenizer(seed: int, *, size: int = 4000, length: int = LENGTH) -> CLIPTokenizer:
    """Train CLIP-style byte-pair merges on the language and return them as a CLIPTokenizer."""
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1024, min_frequency=2, special_tokens=[START, END], initial_alphabet=alphabet,
        end_of_word_suffix="</w>", show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator(corpus(seed, size), trainer)
    with tempfile.TemporaryDirectory() as folder:
        bpe.model.save(folder)
        vocab, merges = _clip_files(Path(folder), alphabet)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def _clip_files(folder: Path, alphabet: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Lay the vocabulary out as CLIP does: bytes, bytes ending a word, merges, the two special tokens."""
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet)]
    tokens += [a + b for a, b in merges if a + b not in tokens]
    tokens += [START, END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def build_encoder(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> CLIPTextModel:
    """Create the untrained text encoder (causal, as CLIP's)."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=LENGTH, projection_dim=width, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
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
    """Return token ids (B, LENGTH), padded as the pipeline pads."""
    return tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def batch(tokenizer: CLIPTokenizer, seed: int, step: int, size: int) -> Tensor:
    """Return token ids of `size` sentences, a function of (seed, step) alone."""
    return tokenize(tokenizer, sentences(seed, step, size))


def sentences(seed: int, step: int, size: int) -> list[str]:
    """Return `size` sentences of the language, a function of (seed, step) alone."""
    rng = np.random.default_rng((seed, STREAM, step))
    return [language_caption(rng) for _ in range(size)]


def loss(model: PrefixRecall, ids_BK: Tensor) -> Tensor:
    """Multi-label cross-entropy of prefix word recall, positives and negatives balanced."""
    logits_BKV = model(ids_BK).float()
    seen_BKV = nn.functional.one_hot(ids_BK, logits_BKV.shape[-1]).cumsum(1).clamp(max=1).float()
    positives = (nn.functional.softplus(-logits_BKV) * seen_BKV).sum() / seen_BKV.sum()
    negatives = (nn.functional.softplus(logits_BKV) * (1 - seen_BKV)).sum() / seen_BKV.sum()
    return positives + negatives


@torch.no_grad()
def recall(model: PrefixRecall, ids_BK: Tensor) -> float:
    """Share of words seen so far that the head names (probability above one half)."""
    named = model(ids_BK) > 0
    seen = nn.functional.one_hot(ids_BK, named.shape[-1]).cumsum(1) > 0
    return float((named & seen).sum() / seen.sum())
