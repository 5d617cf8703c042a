"""What a batch of prompts wants: its relations, flat, and the images and phrases they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import label_index


@dataclass(frozen=True, kw_only=True)
class Targets:
    """P relations of B prompts, in their order: whose they are, between which of its phrases, and which of LABELS.

    `share` is 1 over the number of relations that one pair of phrases has to show: a diagonal is two of one pair, and a
    classifier that is sure of it gives each a half. A prompt may have any number of relations, none included.
    """

    image_P: Tensor
    phrases_P2: Tensor
    label_P: Tensor
    weight_P: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Phrases], device: str = "cpu") -> Targets:
        """The relations that the prompts state; raises UserError for one outside the closed set."""
        stated = [
            (image, *_places(prompt, t), label_index(t.relation))
            for image, prompt in enumerate(prompts)
            for t in prompt.triplets
        ]
        table = torch.tensor(stated, dtype=torch.long, device=device).reshape(-1, 4)
        together = Counter(row[:3] for row in stated)
        weight_P = torch.tensor([1 / together[row[:3]] for row in stated], device=device)
        return cls(image_P=table[:, 0], phrases_P2=table[:, 1:3], label_P=table[:, 3], weight_P=weight_P)

    def select(self, images: Tensor) -> Targets:
        """The relations of a subset of the batch, in its order; `image_P` then counts in the subset."""
        found = images.unsqueeze(1) == self.image_P
        place_P, row_P = found.nonzero(as_tuple=True)
        return Targets(
            image_P=place_P,
            phrases_P2=self.phrases_P2[row_P],
            label_P=self.label_P[row_P],
            weight_P=self.weight_P[row_P],
        )

    def turn(self, number: int, open_P: Tensor) -> Tensor:
        """A mask over P: the relations of one pair of phrases an image, of those with an open one, in rotation by `number`.

        The two relations of a diagonal have their turn together, as in the paper.
        """
        pairs, pair_P = torch.cat([self.image_P.unsqueeze(1), self.phrases_P2], dim=1).unique(
            dim=0, return_inverse=True
        )
        waiting = pair_P[open_P].unique()
        image = pairs[waiting, 0]
        total_B = torch.bincount(image)
        place = torch.arange(len(waiting), device=waiting.device) - (total_B.cumsum(0) - total_B)[image]
        return torch.isin(pair_P, waiting[place == number % total_B[image]])

    def total(self, values_P: Tensor, count: int) -> Tensor:
        """Sum a value a relation into one an image, (count,)."""
        return values_P.new_zeros(count).index_add(0, self.image_P, values_P)

    def touched(self, mask_P: Tensor, count: int) -> Tensor:
        """Which of `count` images have a relation in the mask."""
        return self.total(mask_P.long(), count) > 0

    def has_relation(self, count: int) -> Tensor:
        """Which of `count` images have a relation at all."""
        return torch.bincount(self.image_P, minlength=count) > 0


def _places(prompt: Phrases, triplet) -> tuple[int, int]:
    return prompt.objects.index(triplet.subject), prompt.objects.index(triplet.object)
