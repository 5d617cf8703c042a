"""The random streams of the small world, each with a number of its own: what one draws, no other one draws."""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np


@unique
class Stream(IntEnum):
    """What the random numbers of a stream are for. A number is never used for anything else, with any seed."""

    EXAMPLES = 0  # tests and pictures
    AUTOENCODER = 11  # scenes that the autoencoder is trained on
    CORPUS = 21  # sentences of the language, from which the vocabularies are made
    SENTENCES = 23  # sentences that the text encoder is pretrained on
    DENOISER_SCENES = 31  # scenes that the denoisers are trained on
    DENOISER_BATCHES = 32  # which of those make a batch, and their captions
    JUDGE = 41  # scenes that the judge is trained on
    REFLOW_BATCHES = 42  # which pairs make a batch of a reflow
    DISTILLATION_BATCHES = 43  # as DENOISER_BATCHES, for a distilled student
    REFLOW_CAPTIONS = 44  # captions of reflow's pairs, of scenes that are never drawn
    DATA = 51  # scenes of the attention datasets
    JUDGE_ACCURACY = 61  # scenes that judges are measured on
    SPEED = 71  # scenes of the speed table
    EVIDENCE = 81  # scenes of the evidence for claims
    REFERENCES = 91  # scenes that generated images are compared with


def scene_rng(seed: int, index: int, stream: Stream | int = Stream.EXAMPLES) -> np.random.Generator:
    """Return the generator of scene (or sentence, or batch) `index`; it depends on nothing but its arguments."""
    return np.random.default_rng((seed, int(stream), index))
