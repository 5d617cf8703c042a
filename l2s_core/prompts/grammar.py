"""The grammar of position prompts: from everyday phrasing to triplets and the characters where they stand.

    prompt    = [frame] group { join group } [punctuation]   frame: "a photo of", "there is", …
    group     = phrase relation phrase { further }
    further   = relation phrase                           about the phrase right before it: "A left of B above C"
              | "and" relation phrase                     about the group's first phrase: "A left of B and above C"
    phrase    = [article] word { word }
    relation  = { verb | adverb } wording                 "is", "that is", "directly"; the wordings of relations.py
    join      = "," | "and" | "with" | "while" | "." | …

A diagonal wording ("above and to the left of", "at the bottom right of") states two relations of one pair. What the
rules see two readings of is refused, not guessed; the error names the part. One pass over the words and bounded
look-ahead: the time is linear in the text.

A word of a relation belongs to a name when it is hyphenated ("an over-ear headphone"), stands right behind an article
("an over ear headphone") or is not the whole wording ("a right whale", "a top hat"). There is no dictionary of nouns:
"a white over ear headphone" alone reads as "white" over "ear headphone"; a further relation makes it an error.

A name may be a token that was added to a model, in angle brackets: "<my-dog>".

Adjectives belong to the name, except for those that a reader asks for: as attributes they state a relation of their
own, and a prompt may state nothing else ("a photo of a white dog and a cat").
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, NoReturn

from l2s_core.errors import UserError
from l2s_core.prompts.words import TOKEN
from l2s_core.relations import ATTRIBUTE, RELATIONS, Triplet, readings

Span = tuple[int, int]
ALLOWED = f"allowed: {', '.join(RELATIONS)} in their usual wordings, e.g. 'a dog to the left of a cat'"


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One relation that a text states, with the character spans [start, end) of its three parts.

    Object spans hold the phrase with its adjectives and without its article; the triplet holds the same words, one
    blank between two. The relation span holds the wording without verbs; both clauses of a diagonal share it. An
    attribute's is empty, right before its object.
    """

    triplet: Triplet
    subject_span: Span
    relation_span: Span
    object_span: Span


@dataclass(frozen=True, kw_only=True)
class ParsedPrompt:
    """A text and the relations it states, in the order of the text; at least one."""

    text: str
    clauses: tuple[Clause, ...]


def read_prompt(text: str, attributes: Collection[str] = ()) -> ParsedPrompt:
    """Read every relation of a prompt; raises UserError that names the part that cannot be read, and why.

    Words of `attributes`, in small letters, are cut off the front of phrases: each is a clause of the relation "is".
    """
    parts = _parts(text, _tokens(text))
    parts, described = _described(text, parts, attributes)
    related = any(isinstance(part, _Relation) for part in parts)
    if not related and not described:
        raise UserError(f"no relation in the prompt {text!r}; {ALLOWED}")
    clauses = [*described, *(_Clauses(text).of(parts) if related else ())]
    return ParsedPrompt(text=text, clauses=tuple(sorted(clauses, key=lambda clause: clause.relation_span)))


# ---- words

_ARTICLES = frozenset(["a", "an", "the", "one", "another", "some", "this", "these", "those", "each", "every"])
_FRAMES = frozenset(
    [
        "photo",
        "photograph",
        "image",
        "picture",
        "snapshot",
        "shot",
        "close-up",
        "closeup",
        "view",
        "scene",
        "painting",
        "drawing",
        "illustration",
        "render",
        "rendering",
        "sketch",
    ]
)
_FRAME_LINKS = frozenset(["of", "showing", "depicting"])
_JOINS = {"and": "and", "but": "and", "with": "with", "while": "with", ",": ","} | dict.fromkeys(".;!?…", ".")
_RELATIVE = frozenset(["that", "which", "who"])
_IS = ("'s", "’s")  # short for "is" right before a relation: "the dog's left of the cat"
_FINITE = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "sits",
        "stands",
        "lies",
        "rests",
        "hangs",
        "floats",
        "flies",
        "hovers",
        "appears",
        "hides",
        "jumps",
        "leaps",
        "climbs",
        "perches",
        "crouches",
        "sleeps",
        "swims",
        "runs",
        "walks",
    ]
).union(_IS)
_PARTICIPLES = frozenset(
    [
        "sitting",
        "seated",
        "standing",
        "lying",
        "resting",
        "located",
        "positioned",
        "placed",
        "situated",
        "hanging",
        "mounted",
        "perched",
        "parked",
        "floating",
        "flying",
        "hovering",
        "swimming",
        "running",
        "walking",
        "jumping",
        "leaping",
        "climbing",
        "crouching",
        "hiding",
        "barking",
        "grazing",
        "looking",
        "sleeping",
        "waiting",
        "seen",
        "shown",
        "visible",
    ]
)
_ADVERBS = frozenset(
    [
        "directly",
        "immediately",
        "just",
        "slightly",
        "somewhat",
        "partly",
        "partially",
        "mostly",
        "almost",
        "nearly",
        "well",
        "high",
        "far",
        "further",
        "right",
        "straight",
        "exactly",
        "clearly",
        "now",
        "currently",
        "always",
        "both",
        "diagonally",
    ]
)
_LEADS = _RELATIVE | _FINITE | _PARTICIPLES | _ADVERBS
_NO_NAME = _RELATIVE | _FINITE | frozenset(["directly", "immediately", "slightly", "diagonally"])
_SIDES = frozenset(["left", "right", "upper", "lower"])
_HYPHENS = "join the words of a name with hyphens ('walk-in closet')"


@dataclass(frozen=True)
class _Refusal:
    """Why a word cannot be read, and the way out."""

    why: str
    way_out: str


# Words that end a phrase and start no relation of the closed set; right behind an article they belong to a name.
_REFUSED: tuple[tuple[_Refusal, str], ...] = (
    (
        _Refusal("it is none of the relations", f"use one of them, or {_HYPHENS}"),
        "next to, near, nearby, close to, beside, besides, by, side by side, alongside, along, in, "
        "inside, into, within, outside, at, on, onto, upon, around, against, between, in between, "
        "among, amid, across, opposite, facing, toward, towards, to, from, beyond, touching",
    ),
    (
        _Refusal("a pronoun names no object", "name the object again"),
        "it, its, itself, he, she, him, her, his, they, them, their, whose, each other, one another, "
        "you, your, my, our",
    ),
    (
        _Refusal("a prompt cannot say what does not hold", "state the relation that holds"),
        "not, no, never, without, isn't, isn’t, aren't, aren’t, neither, nor",
    ),
    (_Refusal("it leaves the relation open", "state one"), "or, either"),
    (
        _Refusal("it is no part of a name or a relation", f"write 'is' and the relation, or {_HYPHENS}"),
        "be, been, being, has, have, had, there, here",
    ),
)


@cache
def _lexicon() -> dict[str, Any]:
    """A tree of words; the entry "" of a node is what the words up to it say: relation names or a refusal."""
    root: dict[str, Any] = {}
    refused = {wording: refusal for refusal, wordings in _REFUSED for wording in wordings.split(", ")}
    for wording, entry in (refused | readings()).items():
        node = root
        for word in wording.split():
            node = node.setdefault(word, {})
        node[""] = entry
    return root


# ---- from text to phrases, relations and joins


class _Token(NamedTuple):
    word: str  # lower case
    start: int
    end: int


class _Phrase(NamedTuple):
    name: str
    start: int
    end: int
    article: bool


class _Relation(NamedTuple):
    names: tuple[str, ...]
    start: int
    end: int
    single: bool  # a wording of one word, which may belong to a name as well
    lead: frozenset[str]  # verbs and adverbs before the wording


class _Join(NamedTuple):
    kind: str
    start: int
    end: int


_Part = _Phrase | _Relation | _Join


def _tokens(text: str) -> list[_Token]:
    """The words of a text; a contracted "is" is one of its own where a relation follows it."""
    tokens = [_Token("and" if match[0] == "&" else match[0].lower(), *match.span()) for match in TOKEN.finditer(text)]
    for at in range(len(tokens) - 1, -1, -1):
        word, start, end = tokens[at]
        behind = next((i for i in range(at + 1, len(tokens)) if tokens[i].word not in _LEADS), len(tokens))
        if word.endswith(_IS) and isinstance(_match(tokens, behind)[0], tuple):
            tokens[at : at + 1] = [_Token(word[:-2], start, end - 2), _Token(word[-2:], end - 2, end)]
    return tokens


def _parts(text: str, tokens: list[_Token]) -> list[_Part]:
    """Cut the text at joins and at the longest wording of a relation; what is left between them are phrases."""
    parts: list[_Part] = []
    begin = at = _skip_there(tokens, _frame_end(tokens))
    while at < len(tokens):
        if tokens[at].word in _JOINS:
            parts += _phrase(text, tokens[begin:at])
            parts.append(_Join(_JOINS[tokens[at].word], tokens[at].start, tokens[at].end))
            begin = at = _skip_there(tokens, at + 1)
            continue
        entry, end = _match(tokens, at)
        if entry is None or _in_name(tokens, begin, at, end):
            at += 1
            continue
        if isinstance(entry, _Refusal):
            _unread(text, tokens[at].start, tokens[_part_end(tokens, end) - 1].end, entry.why, entry.way_out)
        lead = _lead_start(tokens, begin, at)
        parts += _phrase(text, tokens[begin:lead], before=tokens[lead].word)
        parts.append(_relation(text, entry, tokens[lead:at], tokens[at:end]))
        begin = at = end
    return parts + _phrase(text, tokens[begin:])


def _frame_end(tokens: list[_Token]) -> int:
    """The index behind a leading "[article] [words] photo of", or 0; "a black and white photo of" is one."""
    for at in range(len(tokens) - 1):
        word = tokens[at].word
        if word in _FRAMES and tokens[at + 1].word in _FRAME_LINKS and (at == 0 or tokens[at - 1].word not in _JOINS):
            return at + 2
        if (
            _JOINS.get(word) in ("with", ".")
            or word == "of"
            or (at and word in _ARTICLES)
            or _match(tokens, at)[0] is not None
        ):
            return 0
    return 0


def _skip_there(tokens: list[_Token], at: int) -> int:
    """The index behind "there is" at `at`, or `at`."""
    first, second = (tokens[i].word if i < len(tokens) else "" for i in (at, at + 1))
    if first in ("there's", "there’s"):
        return at + 1
    return at + 2 if first == "there" and second in ("is", "are", "was", "were") else at


def _match(tokens: list[_Token], at: int) -> tuple[Any, int]:
    """The entry of the longest wording that starts at `at`, or None, and the index behind it."""
    node = _lexicon()
    entry = None
    end = at
    for i in range(at, len(tokens)):
        if tokens[i].word not in node:
            break
        node = node[tokens[i].word]
        if "" in node:
            entry = node[""]
            end = i + 1
    return entry, end


def _in_name(tokens: list[_Token], begin: int, at: int, end: int) -> bool:
    """Whether one word right behind the article that opens a phrase: "an over ear headphone"."""
    return end == at + 1 and at == begin + 1 and tokens[begin].word in _ARTICLES


def _part_end(tokens: list[_Token], at: int) -> int:
    """The index of the next join or relation, where the error's quotation ends."""
    while at < len(tokens) and tokens[at].word not in _JOINS and not isinstance(_match(tokens, at)[0], tuple):
        at += 1
    return at


def _lead_start(tokens: list[_Token], begin: int, at: int) -> int:
    """The index of the first of the verbs and adverbs that stand right before `at`.

    An adverb right behind an article is a name.
    """
    end = at
    while at > begin and tokens[at - 1].word in _LEADS:
        at -= 1
    named = at == begin + 1 and at < end and tokens[begin].word in _ARTICLES and tokens[at].word in _ADVERBS - _NO_NAME
    return at + named


def _relation(text: str, names: tuple[str, ...], lead: list[_Token], wording: list[_Token]) -> _Relation:
    words = frozenset(token.word for token in lead)
    start = wording[0].start
    end = wording[-1].end
    if "diagonally" in words and len(names) == 1:
        _unread(text, lead[0].start, end, "a diagonal needs two directions", "write e.g. 'above and to the left of'")
    return _Relation(names, start, end, len(wording) == 1, words)


def _phrase(text: str, tokens: list[_Token], before: str = "") -> list[_Phrase]:
    """The phrase that the tokens are, none for no tokens; `before` is the word that follows it."""
    if not tokens:
        return []
    article = len(tokens) > 1 and tokens[0].word in _ARTICLES
    if tokens[0].word in _ARTICLES and not article:
        _unread(text, tokens[0].start, tokens[0].end, "no object is named behind the article", "name one")
    words = tokens[article:]
    _check_words(text, words, before)
    start = words[0].start
    end = words[-1].end
    return [_Phrase(" ".join(text[start:end].split()), start, end, article)]


def _check_words(text: str, words: list[_Token], before: str) -> None:
    """Refuse a phrase that is more than the name of one object."""
    end = words[-1].end
    last = words[-1].word
    previous = ""
    for i, (word, start, _) in enumerate(words):
        if not word[0].isalnum() and (word[0] != "<" or len(word) == 1):
            _unread(text, start, end, f"{word!r} is no part of a name", "leave it out")
        if word in _NO_NAME or (0 < i == len(words) - 1 and word in _PARTICIPLES):
            _unread(
                text, start, end, f"no relation follows {word!r}", f"leave {word!r} out, or put it before a relation"
            )
        if word in _ARTICLES and previous != "of" and len(words) > 1:
            _unread(
                text,
                words[0].start if i == 0 else start,
                end,
                "no relation stands before it",
                "put one between two objects",
            )
        previous = word
    if "of" in (words[0].word, last):
        _unread(text, words[0].start, end, "'of' stands between two words of a name", "name an object on either side")
    if last.rpartition("-")[2] in _SIDES or (last in ("top", "bottom") and before in ("left", "right")):
        why = f"{last!r} may belong to the name or to the relation"
        _unread(text, words[0].start, end, why, "write e.g. 'to the left of' or 'to the upper left of'")


def _described(text: str, parts: list[_Part], attributes: Collection[str]) -> tuple[list[_Part], list[Clause]]:
    """The parts without the attributes that open their phrases, and the clauses that these state.

    A phrase keeps at least one word.
    """
    rest: list[_Part] = []
    clauses = []
    for part in parts:
        if not isinstance(part, _Phrase):
            rest.append(part)
            continue
        words = list(TOKEN.finditer(text, part.start, part.end))
        count = next((i for i, word in enumerate(words[:-1]) if word[0].lower() not in attributes), len(words[:-1]))
        if count:
            part = _Phrase(
                " ".join(text[words[count].start() : part.end].split()), words[count].start(), part.end, part.article
            )
        for word in words[:count]:
            triplet = Triplet(subject=word[0], relation=ATTRIBUTE, object=part.name)
            span = (part.start, part.end)
            clauses.append(
                Clause(
                    triplet=triplet, subject_span=word.span(), relation_span=(part.start, part.start), object_span=span
                )
            )
        rest.append(part)
    return rest, clauses


def _unread(text: str, start: int, end: int, why: str, way_out: str) -> NoReturn:
    raise UserError(
        f"no relation in the prompt {text!r} can be read at {text[start:end]!r}: {why}; {way_out}; {ALLOWED}"
    )


# ---- from phrases, relations and joins to clauses


class _Asked(NamedTuple):
    """A relation with its subject, whose object is still to come."""

    subject: _Phrase
    relation: _Relation


class _Stated(NamedTuple):
    """A relation with its subject and its object."""

    subject: _Phrase
    relation: _Relation
    object: _Phrase


class _Clauses:
    """Puts the parts of a text together.

    `head` opened the group of phrases that is being read; `stated` is what was read last of it. `asked` is a relation
    that waits for its object.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.clauses: list[Clause] = []
        self.head: _Phrase | None = None
        self.asked: _Asked | None = None
        self.stated: _Stated | None = None
        self.joins: list[_Join] = []  # since the last phrase or relation
        self.chained = False  # a relation of this group was about an object of the group

    def of(self, parts: list[_Part]) -> tuple[Clause, ...]:
        """Return the clauses that the parts state."""
        for part in parts:
            if isinstance(part, _Phrase):
                self._take_phrase(part)
            elif isinstance(part, _Relation):
                self._take_relation(part)
            else:
                self._take_join(part)
        self._finish()
        return tuple(self.clauses)

    def _take_join(self, join: _Join) -> None:
        self._closed()
        self.joins.append(join)

    def _take_phrase(self, phrase: _Phrase) -> None:
        if self.asked is not None:
            self._place(_Stated(*self.asked, phrase))
        elif self.head is None:
            self.head = phrase
        else:
            self._open_group(self.head, phrase)
        self.joins = []

    def _take_relation(self, relation: _Relation) -> None:
        self._closed()
        self.asked = _Asked(self._subject_of(relation), relation)
        self.joins = []

    def _closed(self) -> None:
        if self.asked is not None:
            self._refuse(self.asked.relation, "no object follows it", "name one")

    def _place(self, stated: _Stated) -> None:
        """The object that the open relation waits for has come."""
        self.asked = None
        self.stated = stated
        if self.chained:
            self._check_single(stated)
        subject, relation, phrase = stated
        for name in relation.names:
            clause = Clause(
                triplet=Triplet(subject=subject.name, relation=name, object=phrase.name),
                subject_span=(subject.start, subject.end),
                relation_span=(relation.start, relation.end),
                object_span=(phrase.start, phrase.end),
            )
            self.clauses.append(clause)

    def _open_group(self, head: _Phrase, phrase: _Phrase) -> None:
        """A phrase follows the group that `head` opened, and opens its own."""
        if self.stated is None:
            way_out = "give every object a relation, or write one hyphenated name ('black-and-white cat')"
            _unread(self.text, head.start, phrase.end, f"{head.name!r} stands in no relation of its own", way_out)
        by_article = head.article or self.stated.object.article
        if by_article and not phrase.article and all(join.kind != "." for join in self.joins):
            why = "without an article it may be a new object or go on with the last one"
            self._refuse(phrase, why, f"write 'the {phrase.name}', or hyphens within a name")
        self.head = phrase
        self.stated = None
        self.chained = False

    def _subject_of(self, relation: _Relation) -> _Phrase:
        """The phrase that a relation is about; refuses the relation when that is open."""
        kinds = {join.kind for join in self.joins}
        if self.head is None:
            self._refuse(relation, "no object stands before it", "name one")
        if self.stated is None:
            if not kinds <= {","}:
                self._refuse(relation, f"it is cut off from {self.head.name!r}", "put it right behind its object")
            return self.head
        if not kinds or (kinds == {","} and relation.lead & _RELATIVE):
            return self._chain(self.head, self.stated, relation)
        if "and" not in kinds or kinds - {",", "and"} or self.chained:
            self._refuse_open(self.head, self.stated, relation)
        return self.head

    def _chain(self, head: _Phrase, stated: _Stated, relation: _Relation) -> _Phrase:
        """The relation is about the object of what was stated last."""
        if relation.lead & _FINITE and not relation.lead & _RELATIVE:
            self._refuse_open(head, stated, relation)
        self._check_single(stated)
        self.chained = True
        return stated.object

    def _check_single(self, stated: _Stated) -> None:
        """Refuse a chain over one bare word: in "a white over ear headphone left of a cup" it belongs to the name."""
        subject, relation, phrase = stated
        if relation.single and not relation.lead and subject.article and not phrase.article:
            why = f"{self.text[relation.start : relation.end]!r} may be a relation or a part of a name"
            _unread(self.text, relation.start, phrase.end, why, f"write 'the {phrase.name}', or {_HYPHENS}")

    def _refuse_open(self, head: _Phrase, stated: _Stated, relation: _Relation) -> NoReturn:
        names = dict.fromkeys(repr(phrase.name) for phrase in (head, stated.subject, stated.object))
        way_out = (
            "write 'and' and the relation for the first, 'that is' and the relation for the last, "
            "or name the object again"
        )
        self._refuse(relation, f"it is open whether it is about {' or '.join(names)}", way_out)

    def _finish(self) -> None:
        self._closed()
        if self.head is not None and self.stated is None:
            self._refuse(self.head, "it stands in no relation", "give it one, or leave it out")
        if any(join.kind in ("and", "with") for join in self.joins):
            self._refuse(self.joins[-1], "nothing follows it", "leave it out, or name an object and its relation")

    def _refuse(self, part: _Part, why: str, way_out: str) -> NoReturn:
        _unread(self.text, part.start, part.end, why, way_out)
