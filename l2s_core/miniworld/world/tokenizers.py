"""Tokenizers of the small world's language, in CLIP's, T5's, Qwen's and Gemma's own classes, and as Mistral's are."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, GemmaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer, T5Tokenizer

from l2s_core.miniworld.world.captions import corpus

CLIP_LENGTH = 24  # text window of CLIP's encoder, tokens
START = "<|startoftext|>"
END = "<|endoftext|>"
T5_LENGTH = 20  # text window of T5's encoder, tokens
SPECIAL = ("<pad>", "</s>", "<unk>")  # in the places where T5 has them
RARE = -20.0  # score of a single character
QWEN_LENGTH = 48  # text window of Qwen's encoder, tokens, the template of a chat among them
CHAT = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
CHAT_WORDS = ("user\n", "assistant\n")
CHAT_MARKS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
MISTRAL_CHAT = """{{ bos_token }}{% for message in messages %}\
{% if message.role == "system" %}[SYSTEM_PROMPT]{{ message.content[0].text }}[/SYSTEM_PROMPT]\
{% else %}[INST]{{ message.content[0].text }}[/INST]{% endif %}{% endfor %}"""
MISTRAL_SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
SPACE = "▁"
GEMMA_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")  # in the places where Gemma has them


def clip_tokenizer(seed: int, *, size: int = 4000, length: int = CLIP_LENGTH) -> CLIPTokenizer:
    """Train CLIP-style byte-pair merges on the language and return them as a CLIPTokenizer."""
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=2,
        special_tokens=[START, END],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(seed, size), trainer)
    with tempfile.TemporaryDirectory() as folder:
        bpe.model.save(folder)
        vocab, merges = _clip_files(Path(folder), alphabet)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def _clip_files(folder: Path, alphabet: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Lay the vocabulary out as CLIP does: bytes, bytes ending a word, merges, the two special tokens."""
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = []
    for line in lines:
        if line and not line.startswith("#version"):
            first, second = line.split()
            merges.append((first, second))
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet)]
    tokens += [a + b for a, b in merges if a + b not in tokens]
    tokens += [START, END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def t5_tokenizer(seed: int, *, size: int = 4000, length: int = T5_LENGTH) -> T5Tokenizer:
    """Return a T5Tokenizer whose pieces are the words of the language and, far less likely, every printable character.

    Scores are log frequencies. (A unigram trainer has nothing to do here: the language has some fifty words.)
    """
    words = Counter(
        word for s in corpus(seed, size) for text in (s, capitalised(s)) for word in re.findall(r"\w+", text)
    )
    total = sum(words.values())
    scores = dict.fromkeys(SPECIAL, 0.0)
    scores |= {f"▁{word}": math.log(count / total) for word, count in sorted(words.items())}
    scores |= {character: RARE for character in ("▁", *map(chr, range(33, 127))) if character not in scores}
    return T5Tokenizer(vocab=list(scores.items()), extra_ids=0, model_max_length=length)


def qwen_tokenizer(
    seed: int, *, size: int = 4000, length: int = QWEN_LENGTH, texts: Sequence[str] = ()
) -> Qwen2Tokenizer:
    """Train Qwen's byte-pair merges on the language, and on the words of `texts`.

    Returns them as a Qwen2Tokenizer with the template of a chat.
    """
    untrained = Qwen2Tokenizer()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = untrained.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([*corpus(seed, size), *CHAT_WORDS * 2, *texts, *texts], trainer)
    model = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        model_max_length=length,
        chat_template=CHAT,
    )
    tokenizer.add_tokens([AddedToken(mark, special=True) for mark in CHAT_MARKS])
    return tokenizer


def mistral_tokenizer(
    seed: int, *, length: int, size: int = 4000, texts: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Train byte-pair merges of bytes, as Mistral's, on the language and on the words of `texts`.

    Returns them as a tokenizer that begins texts with a token of its own, with the template of a chat, which has it.
    """
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=2,
        special_tokens=list(MISTRAL_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([*corpus(seed, size), *texts, *texts], trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", MISTRAL_SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        padding_side="left",
        model_max_length=length,
        chat_template=MISTRAL_CHAT,
    )


def capitalised(text: str) -> str:
    """Return a sentence as people begin it; T5, unlike CLIP, tells the difference."""
    return text[:1].upper() + text[1:]


def gemma_tokenizer(seed: int, *, length: int, size: int = 4000, texts: Sequence[str] = ()) -> GemmaTokenizer:
    """Train Gemma-style byte-pair merges on the language, and on the words of `texts`, and return a GemmaTokenizer."""
    spaced = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    spaced.normalizer = normalizers.Replace(" ", SPACE)
    spaced.pre_tokenizer = pre_tokenizers.Split(SPACE, behavior="merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=2,
        special_tokens=list(GEMMA_SPECIAL),
        initial_alphabet=[SPACE, "\n", *map(chr, range(33, 127))],
        show_progress=False,
    )
    spaced.train_from_iterator([*corpus(seed, size), *texts, *texts], trainer)
    learnt = json.loads(spaced.to_str())["model"]
    merges = [(first, second) for first, second in learnt["merges"]]
    return GemmaTokenizer(vocab=learnt["vocab"], merges=merges, add_bos_token=True, model_max_length=length)
