"""New tokens of a text encoder, each with vectors that were learned for it (Gal et al. 2022, arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from l2s_core.backbones.additions import addition_file, pipeline_of, quiet, read_addition, tensor_digest
from l2s_core.config import TextualInversionConfig
from l2s_core.errors import UserError, first_line
from l2s_core.hashing import digest

SETTING = TextualInversionConfig.SETTING
WORD_END = "</w>"  # of CLIP's vocabulary: "dog</w>" is a word, "dog" begins one


class Vectors(NamedTuple):
    """Where a family has the vectors of new tokens.

    `encoder` is the text encoder that they belong to, `key` the tensor's name in a file; None where the name is the
    token itself, or of no matter, as there is but one.
    """

    encoder: str
    key: str | None = None


def add_tokens(
    tokenizers: Mapping[str, Any], inversions: Sequence[TextualInversionConfig], places: Mapping[str, Vectors]
) -> None:
    """Add the tokens of textual inversions to tokenizers alone, in place; the others of `places` need not be there.

    Raises UserError for files without their vectors and for tokens that a vocabulary has.
    """
    for inversion in inversions:
        for name, vectors_VD in _read(inversion, places).items():
            if name in tokenizers:
                tokens = _tokens(inversion, vectors_VD)
                _require_new(tokenizers[name], inversion, tokens)
                tokenizers[name].add_tokens(tokens)


def require_widths(
    parts: Mapping[str, Any], inversions: Sequence[TextualInversionConfig], places: Mapping[str, Vectors]
) -> None:
    """Raise UserError for vectors that are of another width than those of the text encoders; these may be on "meta"."""
    for inversion in inversions:
        for name, vectors_VD in _read(inversion, places).items():
            encoder = places[name].encoder
            width = parts[encoder].get_input_embeddings().weight.shape[-1]
            if vectors_VD.shape[-1] != width:
                raise UserError(
                    f"{SETTING}: {addition_file(inversion)} has vectors of {vectors_VD.shape[-1]} numbers, but "
                    f"{encoder} of this model has {width}; use one that was trained for this model"
                )


def add_vectors(
    parts: Mapping[str, Any],
    index: Path,
    inversions: Sequence[TextualInversionConfig],
    places: Mapping[str, Vectors],
) -> None:
    """Add the tokens of textual inversions, with their vectors, to a model's components, in place.

    diffusers does so, as the pipeline that the model's `index` names. Raises UserError as `add_tokens` and
    `require_widths` do, before anything is changed by the textual inversion that it is raised for.
    """
    pipeline = pipeline_of(parts, index, SETTING, "load_textual_inversion")
    for inversion in inversions:
        require_widths(parts, [inversion], places)
        read = _read(inversion, places)
        for name, vectors_VD in read.items():
            _require_new(parts[name], inversion, _tokens(inversion, vectors_VD))
        for name, vectors_VD in read.items():
            encoder = parts[places[name].encoder]
            with quiet():
                try:
                    pipeline.load_textual_inversion(
                        {inversion.token: vectors_VD},
                        token=inversion.token,
                        tokenizer=parts[name],
                        text_encoder=encoder,
                    )
                except Exception as error:  # the libraries raise many kinds for one cause
                    raise UserError(f"{SETTING}: cannot load {addition_file(inversion)}: {first_line(error)}") from None
            encoder.requires_grad_(False)


def _read(inversion: TextualInversionConfig, places: Mapping[str, Vectors]) -> dict[str, Tensor]:
    """The vectors (V, D) of a token by the name of the tokenizer, as many for each."""
    stored = read_addition(inversion)
    found = {name: _stored(stored, inversion, place.key) for name, place in places.items()}
    if len({len(vectors_VD) for vectors_VD in found.values()}) > 1:
        counts = " and ".join(str(len(vectors_VD)) for vectors_VD in found.values())
        raise UserError(
            f"{SETTING}: {addition_file(inversion)} has {counts} vectors for one token; "
            "allowed: as many for each text encoder"
        )
    return found


def _stored(stored: Mapping[str, Tensor], inversion: TextualInversionConfig, key: str | None) -> Tensor:
    """The vectors (V, D) that a file has under a key, or for the token."""
    wanted = key or inversion.token
    if key is None and len(stored) == 1:
        (wanted,) = stored
    vectors = stored.get(wanted)
    if vectors is None or vectors.ndim not in (1, 2) or not vectors.numel():
        raise UserError(
            f"{SETTING}: {addition_file(inversion)} has no vectors {wanted!r} for {inversion.token}, but "
            f"{', '.join(sorted(stored)[:5]) or 'nothing'}; use one that was trained for this model's family"
        )
    return vectors.reshape(-1, vectors.shape[-1])


def _tokens(inversion: TextualInversionConfig, vectors_VD: Tensor) -> list[str]:
    """The tokens of several vectors, as diffusers names them."""
    return [inversion.token, *(f"{inversion.token}_{number}" for number in range(1, len(vectors_VD)))]


def _require_new(tokenizer: Any, inversion: TextualInversionConfig, tokens: Sequence[str]) -> None:
    known = tokenizer.get_vocab()
    if any(token in known or token.lower() + WORD_END in known for token in (*tokens, f"{inversion.token}_1")):
        raise UserError(
            f"{SETTING}: the token {inversion.token} is in the model's vocabulary already; "
            f"choose another, as <my-{inversion.token.strip('<>')}>"
        )


def added_digest(parts: Mapping[str, Any], places: Mapping[str, Vectors]) -> str | None:
    """Return a digest of the tokens that were added to a pipeline's tokenizers, with their vectors; None for none."""
    added = [
        [name, token.content, tensor_digest(parts[place.encoder].get_input_embeddings().weight[number])]
        for name, place in places.items()
        for number, token in sorted(parts[name].added_tokens_decoder.items())
        if not token.special
    ]
    return digest(added) if added else None
