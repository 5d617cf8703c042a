"""The exact symmetries of spatial relations: mirrored maps mean mirrored relations.

Mirroring an image left-right turns "left of" into "right of" and leaves all others, "in front of" included. The same
holds for mirroring up-down, for transposing, and for exchanging subject and object, which turns every relation into its
opposite. What becomes of a relation follows from its direction (`relations.py`). Applied at random to training batches
they multiply the data sixteenfold, and eightfold where maps are not square, which cannot be transposed. A mirrored map
keeps whatever a wrong word left in its texture while its label changes, so there is nothing to gain from reading the
word.

The exchange is exact for places alone: a causal text encoder writes the objects before a word into it, so that the
second object's map shows the first one, too, and never the reverse. A classifier that never meets exchanged maps can
rely on that.

An attribute and its object stay what they are in any mirror: every symmetry leaves "is" in place.

Averaging a classifier's answers over the whole group makes it exactly equivariant, and its gradient with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor, nn

from l2s_core.classifier.labels import Labels, classes_of
from l2s_core.relations import DIAGONALS, Direction, moved, opposite

Moves = tuple[Callable[[Tensor], Tensor], Callable[[Direction], Direction]]


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """A move of maps_BOMGG, and labels_R: the place of what each of R labels becomes."""

    move: Callable[[Tensor], Tensor]
    labels_R: Tensor


def _mirror_x(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.flip(-1)


def _mirror_y(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.flip(-2)


def _transpose(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.transpose(-1, -2)


def _exchange(maps_BOMGG: Tensor) -> Tensor:
    return torch.cat([maps_BOMGG[:, :2].flip(1), maps_BOMGG[:, 2:]], dim=1)


MOVES: tuple[Moves, ...] = (
    (_mirror_x, lambda d: (-d[0], d[1], d[2])),
    (_mirror_y, lambda d: (d[0], -d[1], d[2])),
    (_transpose, lambda d: (d[1], d[0], d[2])),
    (_exchange, opposite),
)
"""What generates the group: each of maps, and of the directions of relations."""


@lru_cache
def symmetries_of(names: tuple[str, ...], *, square: bool = True, exchange: bool = True) -> tuple[Symmetry, ...]:
    """Return those of MOVES that turn labels into labels of the same list.

    Without "above" nothing is transposed, nor are maps that are not square. `exchange`: that of the objects is one.
    """
    found = []
    for move, turn in MOVES:
        if (move is _transpose and not square) or (move is _exchange and not exchange):
            continue
        turned = [moved(name, turn) for name in names]
        if set(turned) == set(names):
            found.append(Symmetry(move=move, labels_R=torch.tensor([names.index(name) for name in turned])))
    return tuple(found)


def _square(maps_BOMGG: Tensor) -> bool:
    return maps_BOMGG.shape[-1] == maps_BOMGG.shape[-2]


def augment(
    maps_BOMGG: Tensor,
    truth_BR: Tensor,
    generator: torch.Generator,
    names: Sequence[str],
    *,
    exchange: bool = True,
) -> tuple[Tensor, Tensor]:
    """Apply to every record its own random element of the symmetry group of the labels `names`.

    `exchange` as in `symmetries_of`. Returns new maps and what is true of them.

    Where several labels are true, each becomes another one: every symmetry is its own inverse, so that the label r is
    true of the moved maps where `labels_R[r]` is true of the maps.
    """
    symmetries = symmetries_of(tuple(names), square=_square(maps_BOMGG), exchange=exchange)
    coins_SB = torch.rand(len(symmetries), len(truth_BR), generator=generator) < 0.5
    for coin_B, symmetry in zip(coins_SB, symmetries, strict=True):
        here_B1111 = coin_B.view(-1, 1, 1, 1, 1).to(maps_BOMGG.device)
        maps_BOMGG = torch.where(here_B1111, symmetry.move(maps_BOMGG), maps_BOMGG)
        moved_BR = truth_BR[:, symmetry.labels_R.to(truth_BR.device)]
        truth_BR = torch.where(coin_B.unsqueeze(1).to(truth_BR.device), moved_BR, truth_BR)
    return maps_BOMGG, truth_BR


class GroupAverage(nn.Module):
    """A classifier whose logits are the mean over all symmetries of its input; while training, it alone.

    Moving the maps by a symmetry moves the logits by the same, exactly (group averaging; Yarotsky 2018,
    arXiv 1804.10306, section 2). The denoiser is what steering pays for, so a few small passes cost little.
    """

    def __init__(
        self,
        classifier: nn.Module,
        names: Sequence[str],
        labels: Labels = Labels.SINGLE,
        *,
        exchange: bool = True,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.labels = labels
        self.exchange = exchange
        self.names = tuple(names)
        self.count = len(names)

    def forward(self, maps_BOMGG: Tensor, capture_index_B: Tensor) -> Tensor:
        if self.training:
            answer: Tensor = self.classifier(maps_BOMGG, capture_index_B)
            return answer
        views = []
        labels = []
        symmetries = symmetries_of(self.names, square=_square(maps_BOMGG), exchange=self.exchange)
        for chosen in product((False, True), repeat=len(symmetries)):
            view = maps_BOMGG
            label_R = torch.arange(self.count)
            for use, symmetry in zip(chosen, symmetries, strict=True):
                if use:
                    view = symmetry.move(view)
                    label_R = symmetry.labels_R[label_R]
            views.append(view)
            labels.append(label_R)
        logits_NR = self.classifier(torch.cat(views), capture_index_B.repeat(len(views)))  # N = views x batch
        count = logits_NR.shape[-1]
        logits_VBR = logits_NR.reshape(len(views), len(maps_BOMGG), count)
        back = [
            logits_BR[:, self._moved(label_R, count).to(logits_BR.device)]
            for logits_BR, label_R in zip(logits_VBR, labels, strict=True)
        ]
        return torch.stack(back).mean(0)

    def _moved(self, label_R: Tensor, count: int) -> Tensor:
        """Return the index that each of `count` logits becomes where labels become label_R."""
        if self.labels is not Labels.POWERSET:
            return label_R
        held_CR = classes_of(count - len(DIAGONALS))
        moved_CR = torch.empty_like(held_CR)
        moved_CR[:, label_R[: held_CR.shape[1]]] = held_CR
        return (moved_CR.unsqueeze(1) == held_CR).all(-1).long().argmax(-1)
