"""The `l2s` command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from flows.commands.ablations import ablate
from flows.commands.compare import compare
from flows.commands.exchange import geneval, import_classifier
from flows.commands.experiment import benchmark, generate, reproduce, train
from flows.commands.housekeeping import clean, runs
from flows.commands.machine import doctor, pretrain, rehearse
from flows.commands.servers import accept, down, serve, ui, up
from flows.commands.sweeps import sweep

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """Turns a user's mistake into one line and exit code 2, and lists the commands by theme, in whole sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:
            line = _line_of(error)
            if line is None:
                raise
            click.echo(f"error: {line}", err=True)
            sys.exit(2)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for theme, commands in THEMES.items():
            with formatter.section(theme):
                formatter.write_dl(
                    [((command.name or "").ljust(width), _first_sentence(command.help or "")) for command in commands]
                )


def _line_of(error: Exception) -> str | None:
    """Return the line for an error that a user can do something about; None for any other."""
    from l2s_core.errors import UserError, masked, one_line

    if isinstance(error, UserError):
        return one_line(masked(str(error)))
    if isinstance(error, PermissionError):
        return one_line(_not_allowed(error))
    if "flows.workspace" not in sys.modules:  # no command without it talks to a Prefect server
        return None
    from flows.workspace import server_fault

    fault = server_fault(error)
    return None if fault is None else one_line(fault)


def _not_allowed(error: PermissionError) -> str:
    """Return the line for a file that is another user's, as in a folder of runs that two users have."""
    return (
        f"{error.filename or 'a file'} is not this user's to read or write ({error.strerror}); choose another --home, "
        "or let a group share it: 'chgrp -R GROUP HOME', 'chmod -R g+rwXs HOME', and 'umask 002' for each of its users"
    )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


@click.group(cls=Commands, context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(package_name="learn-to-steer")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Learn-to-Steer: teach a classifier to read spatial relations from cross-attention, and steer with it."""
    if ctx.invoked_subcommand is None:
        click.echo(BEGIN)


BEGIN = """Text-to-image models that put things where the prompt says. Begin with one of these:

  l2s generate "a dog to the left of a cat"   a picture, plain beside steered
  l2s reproduce --quick                       the whole experiment on little data, in a few minutes
  l2s doctor sd21                             what a run with real weights needs here
  l2s --help                                  every command"""

THEMES: dict[str, tuple[click.Command, ...]] = {
    "Make and measure": (generate, reproduce, train, benchmark),
    "Many runs": (sweep, ablate, compare, runs, clean),
    "Models and machines": (doctor, rehearse, pretrain),
    "Servers and exchange": (up, ui, serve, accept, down, geneval, import_classifier),
}
for command in (command for commands in THEMES.values() for command in commands):
    main.add_command(command)


if __name__ == "__main__":
    main()
