"""A rehearsal, and the JSON it leaves."""

from __future__ import annotations

from pathlib import Path

from l2s_core.backbones.load import pick_device
from l2s_core.config import RunConfig, Scale
from l2s_core.planning.measured import FORMAT, Rehearsal
from l2s_core.planning.rehearsal import priced_settings, rehearse
from l2s_core.storage.versioned import read_versioned, write_versioned
from tasks.stage_task import GPU, accelerator, stage_task


def rehearsal_file(home: Path, name: str, scale: Scale = "full") -> Path:
    """Where the rehearsal of a run lies."""
    return Path(home) / "rehearsals" / f"{name}-{scale}.json"


def last_rehearsal(home: Path, config: RunConfig) -> Rehearsal | None:
    """Return the full-size rehearsal of a run.

    None when there was none, or when the last one of its name was of other settings.
    """
    path = rehearsal_file(home, config.name)
    if not path.is_file():
        return None
    rehearsal = read_versioned(
        path, FORMAT, Rehearsal.from_json, what="rehearsal", remedy=f"run 'l2s rehearse {config.name}' again"
    )
    return rehearsal if rehearsal.settings == priced_settings(config) else None


@stage_task(name="rehearse", tags=[GPU])
def rehearse_run(config: RunConfig, scale: Scale, images: int, home: Path) -> Rehearsal:
    """Measure every stage's operations and write them down."""
    with accelerator():
        result = rehearse(config, scale=scale, images=images, device=pick_device(config.device))
    write_versioned(rehearsal_file(home, config.name, scale), FORMAT, result.to_json())
    return result
