"""What the commands share: arguments, options, and the start of every one."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.environment import HOME, INSTALLED, prepare

if TYPE_CHECKING:  # nothing heavy is imported until a command needs it
    from l2s_core.config import Overrides

Command = Callable[..., Any]
"""A function that click makes a command of."""


def with_config(command: Command) -> Command:
    """The run's configuration, as an argument or as --config; the small world's own by default."""

    def merged(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str:
        given = ctx.params.pop("config_option", None)
        if value and given and value != given:
            raise click.UsageError(f"two configurations given: {value!r} and --config {given!r}")
        return value or given or "mini-sd"

    command = click.argument("config", required=False, callback=merged)(command)
    return click.option("--config", "config_option", is_eager=True, help="The same as CONFIG.")(command)


class _Folder(click.ParamType):
    """The folder of runs: an existing one, or one to be made."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the folder; raises UserError for a file, and for a name that no folder can have."""
        from l2s_core.errors import UserError

        home = Path(value)
        try:
            if not str(value) or "\0" in str(value):
                raise ValueError("no folder has this name")
            wrong = home.exists() and not home.is_dir()
        except (OSError, ValueError) as error:
            raise UserError(f"--home (or L2S_HOME) is {str(value)!r}: {error}; give a folder") from None
        if wrong:
            raise UserError(f"cannot write to {home}: --home (or L2S_HOME) is a file; choose a writable folder")
        return home


home_option = click.option(
    "--home",
    type=_Folder(),
    default=HOME,
    help="Folder of runs: stages, reports, MLflow, Prefect. [default: mlruns/]",
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting, e.g. --set data.train=50."
)
rebuild_option = click.option("--rebuild", is_flag=True, help="Write damaged stage outputs anew.")
quick_option = click.option(
    "--quick", is_flag=True, help="The whole chain on little data, in minutes: checks that it works, shows no result."
)


def dataset_options(command: Command) -> Command:
    """Options of the commands that build a dataset."""
    for option in (home_option, rebuild_option, quick_option, set_option, with_config):
        command = option(command)
    return command


Where = tuple[str | None, str | None, int | None]
"""A runner's name, a scheduler's address, a number of workers, as given."""


def runner_options(command: Command) -> Command:
    """Options of the commands whose shards may run on other workers; the command gets them as `where`."""

    @wraps(command)
    def merged(*arguments: Any, runner: str | None, scheduler: str | None, workers: int | None, **rest: Any) -> Any:
        return command(*arguments, where=(runner, scheduler, workers), **rest)

    for option in (
        click.option(
            "--workers", type=click.IntRange(1), help="Dask worker processes on this machine; needs 'l2s up'."
        ),
        click.option(
            "--scheduler", metavar="ADDRESS", help="A Dask scheduler that is there, e.g. tcp://10.0.0.5:8786."
        ),
        click.option(
            "--runner",
            metavar="NAME",
            help="Where shards run: a name in configs/runners. [default: threads, this process]",
        ),
    ):
        merged = option(merged)
    return merged


def start(home: Path) -> None:
    """Set the environment, see that the folder of runs can be written, silence the libraries."""
    prepare(home)
    atexit.register(gc.freeze)
    from flows.environment import quiet_libraries
    from l2s_core.storage.files import make_folder

    make_folder(home)
    if INSTALLED and home == HOME and not os.environ.get("L2S_HOME"):
        click.echo(f"folder of runs: {home} (--home or L2S_HOME chooses another)", err=True)
    with waiting("loading libraries"), imports():
        quiet_libraries()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is waited for, and take it back; a log has nothing of it."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(f"{what} …", nl=False, err=True)
    try:
        yield
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)  # the start of the line, and nothing after it


@contextmanager
def imports() -> Iterator[None]:
    """Import libraries, and keep the garbage collector from what they leave.

    torch, diffusers and transformers leave a million objects that live until the end. Looking for garbage among them
    while they come, and once more when the process ends, took a fifth of the time of a first picture.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def overrides_of(settings: tuple[str, ...], quick: bool = False, config: str = "") -> Overrides:
    """Return dotted keys and values of a preset and of --set, of which the last of a key counts, as options do.

    Raises UserError for one that is not KEY=VALUE.
    """
    from l2s_core.config import Overrides, quick_overrides
    from l2s_core.config.yaml_text import parse_yaml
    from l2s_core.errors import UserError

    preset = quick_overrides(config) if quick else Overrides({})
    values: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise UserError(f"--set {setting!r} is not KEY=VALUE; e.g. --set data.train=50")
        values[key] = parse_yaml(text, f"--set {setting!r}, whose value is to be YAML (a text may stand in quotes)")
    return preset.changed(values, "--set")
