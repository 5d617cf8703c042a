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
    the relation, an index in LABELS. weight_P: 1 over the number of relations that one pair of phrases has to show. A
    diagonal is two relations of one pair, and a classifier that is sure of it gives each a half.
    """

    image_P: Tensor
    phrases_P2: Tensor
    pair_P: Tensor
    label_P: Tensor
    weight_P: Tensor

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
            weight_P=torch.tensor(_weights(pairs, labels), dtype=torch.float32, device=device),
        )

    def select(self, images: Tensor) -> Targets:
        """The relations of a subset of the batch, in its order; `image_P` then counts in the subset."""
        found = images.unsqueeze(1) == self.image_P
        place_P, row_P = found.nonzero(as_tuple=True)
        return Targets(
            image_P=place_P,
            phrases_P2=self.phrases_P2[row_P],
            pair_P=self.pair_P[row_P],
            label_P=self.label_P[row_P],
            weight_P=self.weight_P[row_P],
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
        pairs_P3 = torch.cat([self.image_P.unsqueeze(1), self.phrases_P2.sort(dim=1).values], dim=1)
        pairs, pair_P = torch.unique(pairs_P3, dim=0, return_inverse=True)  # sorted: an image's pairs stand together
        waiting = pair_P[open_P].unique()
        image = pairs[waiting, 0]
        waiting_B = torch.bincount(image)
        first_B = waiting_B.cumsum(0) - waiting_B  # where an image's pairs begin among those that wait
        place = torch.arange(len(waiting), device=waiting.device) - first_B[image]
        return torch.isin(pair_P, waiting[place == number % waiting_B[image]])

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


def _weights(pairs: Sequence[tuple[int, int, int]], labels: Sequence[int]) -> list[float]:
    """1 over the number of different relations of a relation's two phrases; "A left of B" is "B right of A"."""
    shown: dict[tuple[int, frozenset[int]], set[str]] = defaultdict(set)
    for (image, subject, object_), label in zip(pairs, labels, strict=True):
        name = LABELS[label]
        shown[image, frozenset((subject, object_))].add(name if subject < object_ else OPPOSITE.get(name, name))
    return [1 / len(shown[image, frozenset(phrases)]) for image, *phrases in pairs]
