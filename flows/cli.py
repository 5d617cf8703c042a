"""The `l2s` command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys
from typing import Any

import click

from flows.commands.ablations import ablate
from flows.commands.compare import compare
from flows.commands.exchange import geneval
from flows.commands.experiment import benchmark, generate, reproduce, train
from flows.commands.housekeeping import clean, runs
from flows.commands.machine import doctor, pretrain, rehearse
from flows.commands.servers import down, serve, ui, up
from flows.commands.sweeps import sweep

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """Turns a user's mistake into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        from l2s_core.errors import UserError

        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="learn-to-steer")
def main() -> None:
    """Learn-to-Steer: teach a classifier to read spatial relations from cross-attention, and steer with it."""


COMMANDS = (
    reproduce,
    train,
    benchmark,
    generate,
    sweep,
    ablate,
    doctor,
    rehearse,
    pretrain,
    runs,
    compare,
    geneval,
    clean,
    up,
    down,
    ui,
    serve,
)
for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
