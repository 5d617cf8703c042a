"""What reports call things, and what they say of a run's scope."""

from __future__ import annotations

MAPS = {"inverted": "inverted scenes", "trajectories": "own sampling", "both": "both"}  # what a classifier learns from
JUDGED = "best-of-n-judge"  # the method that looks at the verdicts
METHOD_NOTES = {
    "plain": "the plain images again",
    "classifier": "this run's classifier with other steering settings",
    "paper": (
        "this run's classifier with the paper's schedule: "
        "the gradient as it is, up to the last update of every steered step"
    ),
    "centroid": (
        "a handcrafted loss: the attention centroids of the phrases apart by a margin along the relation's axis"
    ),
    "attend-and-excite": (
        "the loss of Attend-and-Excite, which strengthens the more neglected phrase and knows no relations"
    ),
    "best-of-n": "no steering; of several plain images, the one whose relation this run's classifier reads most surely",
    JUDGED: "no steering; of several plain images, one that the judge calls correct if there is any (an upper bound)",
}
SMALL_WORLD_SCOPE = (
    "Everything here ran on a small world: 64-pixel scenes of 16 sprites, and models trained on them. Its captions "
    "name relations seldom and mostly wrongly, which makes the model bad at relations in the way models trained on "
    "crawled captions are. It shows that the method, its leakage argument and this code work end to end; it does not "
    "show figures for Stable Diffusion or FLUX weights."
)
PHOTOGRAPH_SCOPE = (
    "Images of the source named in the settings, inverted with the model named there; the prompts of the benchmark "
    "have the form of the protocol named there and are drawn by this project's own seed, unless a file of the official "
    "ones is named, too. So the figures stand beside published ones, and need not be of the same prompts."
)
