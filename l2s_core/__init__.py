"""Learn-to-Steer: plain PyTorch, no orchestration and no tracking.

    import l2s_core as l2s

    model = l2s.load("mini-sd")
    result = model("a dog to the left of a cat", seeds=range(4))
    result.images  # PIL images

Nothing heavy is imported before one of these names is used. How the core is built: README.md in this folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2s_core.errors import UserError
    from l2s_core.interface.loading import load
    from l2s_core.interface.model import SteeredModel
    from l2s_core.interface.pushing import push
    from l2s_core.interface.result import Result
    from l2s_core.interface.saving import save

_HOME = {
    "load": "l2s_core.interface.loading",
    "save": "l2s_core.interface.saving",
    "push": "l2s_core.interface.pushing",
    "SteeredModel": "l2s_core.interface.model",
    "Result": "l2s_core.interface.result",
    "UserError": "l2s_core.errors",
}
__all__ = ["Result", "SteeredModel", "UserError", "load", "push", "save"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
