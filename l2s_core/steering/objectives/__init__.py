"""What steering aims at: one module an objective, and one steering loop for all of them."""

from l2s_core.steering.objectives.centroid import CentroidObjective, centroids
from l2s_core.steering.objectives.classifier import ClassifierObjective
from l2s_core.steering.objectives.objective import Objective
from l2s_core.steering.objectives.presence import PresenceObjective, smoothed

__all__ = [
    "CentroidObjective",
    "ClassifierObjective",
    "Objective",
    "PresenceObjective",
    "centroids",
    "smoothed",
]
