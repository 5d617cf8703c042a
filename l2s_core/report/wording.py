"""What reports call things."""

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
