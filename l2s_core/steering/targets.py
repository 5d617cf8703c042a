"""What a batch of prompts asks for: its relations in one list, each with its image and its two phrases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import LABELS, OPPOSITE, Triplet, label_index


@dataclass(frozen=True, kw_only=True)
class Targets:
    """P relations of B prompts, in the prompts' order. A prompt may have any number of relations, none included.

    What a prompt states twice counts once.

    image_P: the prompt that a relation belongs to. phrases_P2: subject and object, as places among that prompt's
    objects. pair_P: the place of these two among the prompt's pairs, in the order in which they are stated. label_P:
    the relation, an index in LABELS. wanted_PR: every label of LABELS that is asked of the relation's two phrases,
    itself included: two of a diagonal.
    """

    image_P: Tensor
    phrases_P2: Tensor
    pair_P: Tensor
    label_P: Tensor
    wanted_PR: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Phrases], device: str = "cpu") -> Targets:
        """The relations that the prompts state; raises UserError for one outside the closed set."""
        pairs: list[tuple[int, int, int]] = []  # image, subject, object
        labels: list[int] = []
        for image, prompt in enumerate(prompts):
            for triplet in dict.fromkeys(prompt.triplets):
                pairs.append((image, *_places(prompt, triplet)))
                labels.append(label_index(triplet.relation))
        pairs_P3 = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 3)
        return cls(
            image_P=pairs_P3[:, 0],
            phrases_P2=pairs_P3[:, 1:],
            pair_P=torch.tensor(_pair_numbers(pairs), dtype=torch.long, device=device),
            label_P=torch.tensor(labels, dtype=torch.long, device=device),
            wanted_PR=torch.tensor(_wanted(pairs, labels), dtype=torch.bool, device=device).reshape(-1, len(LABELS)),
        )

    @property
    def weight_P(self) -> Tensor:
        """1 over the number of relations that a relation's two phrases have to show."""
        return 1 / self.wanted_PR.sum(1)

    def select(self, images: Tensor) -> Targets:
        """The relations of a subset of the batch, in its order; `image_P` then counts in the subset."""
        found = images.unsqueeze(1) == self.image_P
        place_P, row_P = found.nonzero(as_tuple=True)
        return Targets(
            image_P=place_P,
            phrases_P2=self.phrases_P2[row_P],
            pair_P=self.pair_P[row_P],
            label_P=self.label_P[row_P],
            wanted_PR=self.wanted_PR[row_P],
        )

    def turn(self, number: int, open_P: Tensor) -> Tensor:
        """Return a mask over P: whose turn it is in update `number`, one pair of phrases an image.

        Only pairs with an open relation have turns, in rotation. All relations of a pair have their turn together: the
        two of a diagonal.

        Example: "a dog left of a cat above an apple" and "a dog above and to the left of a cat", nothing satisfied
        yet::

            P  image  phrases     relation   pair   turn in update 0   1   2
            0  0      dog, cat    left of    0      x                      x
            1  0      cat, apple  above      1                         x
            2  1      dog, cat    above      2      x                  x   x
            3  1      dog, cat    left of    2      x                  x   x

        Image 0 has two waiting pairs, so that update 2 begins again with the first. Image 1 has one: its diagonal.
        Once relation 0 is satisfied, pair 1 is the only one that waits in image 0 and has every turn.
        """
        place_P, waiting_P = self._waiting(open_P)
        return place_P == number % waiting_P.clamp_min(1)

    def open_pairs(self, open_P: Tensor) -> list[Tensor]:
        """Return masks over P of the pairs with an open relation: the first such pair of every image, the second, …"""
        place_P, waiting_P = self._waiting(open_P)
        return [place_P == place for place in range(int(waiting_P.max()))] if len(waiting_P) else []

    def _waiting(self, open_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the place of a relation's pair among the pairs of its image that have an open one, and their number.

        The place of a pair without open relations is -1.
        """
        pairs_P3 = torch.cat([self.image_P.unsqueeze(1), self.phrases_P2.sort(dim=1).values], dim=1)
        pairs, pair_P = torch.unique(pairs_P3, dim=0, return_inverse=True)  # sorted: an image's pairs stand together
        waiting = pair_P[open_P].unique()
        image = pairs[waiting, 0]
        waiting_B = torch.bincount(image, minlength=int(self.image_P.max()) + 1 if len(self.image_P) else 0)
        first_B = waiting_B.cumsum(0) - waiting_B  # where an image's pairs begin among those that wait
        place = torch.full((len(pairs),), -1, device=pair_P.device)
        place[waiting] = torch.arange(len(waiting), device=waiting.device) - first_B[image]
        return place[pair_P], waiting_B[self.image_P]

    def fixed_turn(self, number: int) -> Tensor:
        """Return a mask over P: whose turn it is in update `number`, satisfied or not, one pair of phrases an image."""
        pairs_B = torch.zeros_like(torch.bincount(self.image_P)).scatter_reduce(
            0, self.image_P, self.pair_P + 1, "amax"
        )
        return self.pair_P == number % pairs_B[self.image_P]

    def total(self, values_P: Tensor, count: int) -> Tensor:
        """Sum a value a relation into one an image, (count,)."""
        return values_P.new_zeros(count).index_add(0, self.image_P, values_P)

    def touched(self, mask_P: Tensor, count: int) -> Tensor:
        """Which of `count` images have a relation in the mask."""
        return self.total(mask_P.long(), count) > 0

    def has_relation(self, count: int) -> Tensor:
        """Which of `count` images have a relation at all."""
        return torch.bincount(self.image_P, minlength=count) > 0


def _places(prompt: Phrases, triplet: Triplet) -> tuple[int, int]:
    """Subject and object as places among the prompt's objects."""
    return prompt.objects.index(triplet.subject), prompt.objects.index(triplet.object)


def _pair_numbers(pairs: Sequence[tuple[int, int, int]]) -> list[int]:
    """The place of each two phrases among those of its image, in the order in which they first come."""
    numbers: dict[int, dict[frozenset[int], int]] = defaultdict(dict)
    return [numbers[image].setdefault(frozenset(phrases), len(numbers[image])) for image, *phrases in pairs]


def _wanted(pairs: Sequence[tuple[int, int, int]], labels: Sequence[int]) -> list[list[bool]]:
    """Which of LABELS are asked of a relation's two phrases, as it has them; "A left of B" is "B right of A"."""
    shown: dict[tuple[int, frozenset[int]], set[str]] = defaultdict(set)
    for (image, subject, object_), label in zip(pairs, labels, strict=True):
        shown[image, frozenset((subject, object_))].add(_from_first(LABELS[label], subject, object_))
    return [
        [_from_first(name, subject, object_) in shown[image, frozenset((subject, object_))] for name in LABELS]
        for image, subject, object_ in pairs
    ]


def _from_first(name: str, subject: int, object_: int) -> str:
    """The relation of a subject to an object as that of the phrase that comes first to the other."""
    return name if subject < object_ else OPPOSITE.get(name, name)
