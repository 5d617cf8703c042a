"""The folder that all processes of a test session share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VARIABLE = "L2S_TESTS_SHARED"


def begin() -> None:
    """Make it; called by the process that starts the others."""
    os.environ.setdefault(VARIABLE, tempfile.mkdtemp(prefix="l2s-tests-shared-"))


def shared_folder() -> Path:
    """Return it."""
    return Path(os.environ[VARIABLE])
