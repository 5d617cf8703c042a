"""Phrases and tokens: repeated, multi-word and missing phrases."""

from __future__ import annotations

import pytest

from l2s_core.errors import UserError
from l2s_core.prompts.prompt import Prompt, parse_prompt, phrase_spans, prompt_for
from l2s_core.prompts.tokens import phrase_weights
from l2s_core.relations import Triplet


def phrases(prompt: Prompt) -> tuple[str, str]:
    return tuple(prompt.text[slice(*span)] for span in prompt.spans)


def test_prompt_spans_cover_the_phrases() -> None:
    prompt = prompt_for(Triplet(subject="hot dog", relation="left of", object="hot plate"))
    assert prompt.text == "a hot dog to the left of a hot plate"
    assert phrases(prompt) == ("hot dog", "hot plate")


def test_repeated_words_keep_their_own_spans() -> None:
    prompt = prompt_for(Triplet(subject="teddy bear", relation="above", object="bear"))
    assert phrases(prompt) == ("teddy bear", "bear")
    assert prompt.object_span[0] > prompt.subject_span[1]


@pytest.mark.parametrize(
    ("text", "subject", "relation", "object_"),
    [
        ("a dog to the left of a cat", "dog", "left of", "cat"),
        ("a photo of an orange right of the teddy bear", "orange", "right of", "teddy bear"),
        ("A traffic light is below an umbrella.", "traffic light", "below", "umbrella"),
    ],
)
def test_parse(text: str, subject: str, relation: str, object_: str) -> None:
    prompt = parse_prompt(text)
    assert prompt.triplet == Triplet(subject=subject, relation=relation, object=object_)
    assert phrases(prompt) == (subject, object_)


@pytest.mark.parametrize("text", ["a dog and a cat", "", "above a cat", "a dog above"])
def test_parse_refuses_what_it_cannot_read(text: str) -> None:
    with pytest.raises(UserError):
        parse_prompt(text)


def test_a_phrase_stands_once_as_whole_words_or_it_is_an_error() -> None:
    for text, name in (("a hot dog", "hot plate"), ("a doghouse", "dog"), ("a dog and a dog", "dog"), ("a dog", "")):
        with pytest.raises(UserError, match="names .* times; allowed: once"):
            phrase_spans(text, [name])
    assert phrase_spans("a hot dog above a dog", ["dog", "hot dog"]) == {"hot dog": (2, 9), "dog": (18, 21)}


@pytest.mark.parametrize("name", ["cafe\u0301", "कुत्ता", "बिल्ली", "می\u200cخواهم", "Österreicher", "crème-brûlée"])
def test_names_of_any_script_are_names(name: str) -> None:
    """A combining accent and a vowel sign were "no part of a name"."""
    text = f"a {name} to the left of a cat"
    prompt = parse_prompt(text)
    assert phrases(prompt) == (name, "cat") == prompt.objects
    assert phrase_spans(text, [name]) == {name: prompt.subject_span}
    with pytest.raises(UserError, match="names 'cafe' 0 times"):
        phrase_spans("a cafe\u0301", ["cafe"])


def test_weights_average_the_tokens_of_a_phrase(backbone) -> None:
    prompt = prompt_for(Triplet(subject="teddy bear", relation="right of", object="traffic light"))
    weights = backbone.phrase_weights([prompt])[0]
    tokenizer = backbone.parts["tokenizer"]
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(prompt.text).input_ids)
    for row, words in zip(weights, (["teddy</w>", "bear</w>"], ["traffic</w>", "light</w>"]), strict=True):
        assert [tokens[i] for i in row.nonzero().flatten()] == words
        assert row.sum() == 1


def test_phrase_beyond_the_window_is_an_error(backbone) -> None:
    prompt = prompt_for(Triplet(subject="dog", relation="above", object="cat"), prefix="a photo of " * 12)
    with pytest.raises(UserError, match="cut off"):
        backbone.phrase_weights([prompt])


def test_weights_refer_to_the_tokens_of_a_template_without_its_padding(backbone) -> None:
    """Words of the template are no phrase, though it says the same; tokens that a model leaves out do not count."""
    prompt = prompt_for(Triplet(subject="cat", relation="right of", object="dog"))
    tokenizer = backbone.parts["tokenizer"]

    def template(text: str) -> str:
        return f"a cat and a dog: {text}, a cat"

    def phrases_of(ids: list[int], **how) -> list[list[str]]:
        (rows,) = phrase_weights(tokenizer, [prompt], 24, template=template, **how)
        return [tokenizer.convert_ids_to_tokens([ids[i] for i in row.nonzero().flatten()]) for row in rows]

    ids = tokenizer(template(prompt.text)).input_ids
    plain = phrase_weights(tokenizer, [prompt], 24, template=template)
    (first, second) = (int(row.nonzero()) for row in plain[0])
    assert ids.index(ids[first]) < first < second  # the template's cat is another one
    assert phrases_of(ids) == phrases_of(ids[5:], skipped=5) == [["cat</w>"], ["dog</w>"]]
    assert phrases_of([0] * (24 - len(ids)) + ids, padding="left") == [["cat</w>"], ["dog</w>"]]
    with pytest.raises(UserError, match="template makes 'A CAT TO .*; it must leave the prompt as it is"):
        phrase_weights(tokenizer, [prompt], 24, template=str.upper)
