"""Which scenes a backbone can be asked about: their phrases must fit its text window under every prompt."""

from __future__ import annotations

from collections.abc import Callable

from l2s_core.backbones.load import phrase_check
from l2s_core.config import BackboneConfig
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import PHOTO_PREFIX, prompt_for
from l2s_core.relations import PLANAR, Triplet


def window_test(config: BackboneConfig) -> Callable[[Triplet], bool]:
    """Return the test whether the model's text window holds both phrases of a triplet.

    It loads the model's tokenizers alone. Inversion has true and wrong prompts, trajectories have either order and the
    benchmark's wording: the test is with every relation, in both orders and that wording, which is the longest.
    """
    check = phrase_check(config)

    def fits(triplet: Triplet) -> bool:
        pair = triplet.subject, triplet.object
        prompts = [
            prompt_for(Triplet(subject=subject, relation=relation, object=object_), prefix=PHOTO_PREFIX)
            for subject, object_ in (pair, pair[::-1])
            for relation in PLANAR
        ]
        try:
            check(prompts)
        except UserError:
            return False
        return True

    return fits
