"""The `l2s` command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from flows.environment import HOME, prepare

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def with_config(command):
    """The run's configuration, as an argument or as --config; the small world's own by default."""

    def merged(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str:
        given = ctx.params.pop("config_option", None)
        if value and given and value != given:
            raise click.UsageError(f"two configurations given: {value!r} and --config {given!r}")
        return value or given or "mini-sd"

    command = click.argument("config", required=False, callback=merged)(command)
    return click.option("--config", "config_option", is_eager=True, help="The same as CONFIG.")(command)


home_option = click.option(
    "--home", type=click.Path(path_type=Path), default=HOME, help="Folder of runs: stages, reports, MLflow, Prefect. [default: mlruns/]"
)
set_option = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting, e.g. --set data.train=50.")
rebuild_option = click.option("--rebuild", is_flag=True, help="Write damaged stage outputs anew.")
quick_option = click.option("--quick", is_flag=True, help="The whole chain on little data, in minutes: checks that it works, shows no result.")


def dataset_options(command):
    """Options of the commands that build a dataset."""
    for option in (home_option, rebuild_option, quick_option, set_option, with_config):
        command = option(command)
    return command


class Commands(click.Group):
    """Turns a user's mistake into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        from l2s_core.errors import UserError

        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="learn-to-steer")
def main() -> None:
    """Learn-to-Steer: teach a classifier to read spatial relations from cross-attention, and steer with it."""


@main.command()
@dataset_options
def reproduce(config: str, settings: tuple[str, ...], quick: bool, rebuild: bool, home: Path) -> None:
    """Run the whole chain and write the report. CONFIG is a name in configs/ or a YAML file."""
    _prepare(home)
    from flows.planning import plan
    from flows.reproduce import reproduce as flow
    from flows.summary import print_summary

    overrides = _overrides(settings, quick, config)
    plan(config, overrides, home)  # mistakes show at once, before Prefect starts
    print_summary(flow(config, overrides, home, rebuild), home)


@main.command()
@dataset_options
def train(config: str, settings: tuple[str, ...], quick: bool, rebuild: bool, home: Path) -> None:
    """Build the attention dataset and train the run's classifiers."""
    _prepare(home)
    from flows.planning import plan
    from flows.reproduce import train as flow
    from flows.summary import print_classifiers

    overrides = _overrides(settings, quick, config)
    plan(config, overrides, home)
    print_classifiers(flow(config, overrides, home, rebuild))


@main.command()
@with_config
@click.option("--classifier", type=click.Path(path_type=Path), help="A classifier's folder. [default: the shipped one]")
@set_option
@quick_option
@home_option
def benchmark(config: str, classifier: Path | None, settings: tuple[str, ...], quick: bool, home: Path) -> None:
    """Benchmark an existing classifier: plain against steered, without building a dataset."""
    _prepare(home)
    from flows.benchmark import benchmark as flow
    from flows.planning import plan
    from flows.summary import print_benchmark

    overrides = _overrides(settings, quick, config)
    plan(config, overrides, home, classifier)
    print_benchmark(*flow(config, classifier, overrides, home))


@main.command()
@click.argument("prompt")
@click.option("--seeds", type=click.IntRange(1, 64), default=4, show_default=True, help="How many images.")
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True, help="Seeds count up from here.")
@click.option("--config", default="mini-sd", show_default=True, help="Backbone and steering settings.")
@click.option("--classifier", type=click.Path(path_type=Path), help="A classifier's folder. [default: the shipped one]")
@set_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("steered.png"), show_default=True)
def generate(prompt: str, seeds: int, first_seed: int, config: str, classifier: Path | None, settings: tuple[str, ...], out: Path) -> None:
    """Make images of PROMPT, plain and steered from the same noise, side by side in one PNG."""
    _prepare(HOME)
    from flows.generate import generate as make

    make(prompt, range(first_seed, first_seed + seeds), config, classifier, _overrides(settings), out)


@main.command()
@with_config
@set_option
@home_option
def doctor(config: str, settings: tuple[str, ...], home: Path) -> None:
    """Say whether a run can work here, and what memory, disk and time it needs; exit code 0 or 1."""
    prepare(home)
    from flows.doctor import doctor as look
    from flows.environment import quiet_libraries

    quiet_libraries()
    sys.exit(0 if look(config, _overrides(settings), home) else 1)


@main.command()
@with_config
@click.option("--scale", type=click.Choice(["full", "tiny"]), default="full", show_default=True, help="The real size, or a tiny model of the same shape.")
@click.option("--images", type=click.IntRange(1), default=2, show_default=True, help="How many images at once.")
@set_option
@home_option
def rehearse(config: str, scale: str, images: int, settings: tuple[str, ...], home: Path) -> None:
    """Measure time and memory of every stage on random weights of the run's real architecture."""
    _prepare(home)
    from flows.rehearse import rehearse as flow
    from flows.summary import print_rehearsal
    from l2s_core.config import load_run_config

    overrides = _overrides(settings)
    load_run_config(config, overrides)
    print_rehearsal(flow(config, overrides, scale, images, home), home)


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--model", "config", default="mini-sd", show_default=True, help="mini-sd (and mini-seg), mini-flux, or a YAML file.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@home_option
def pretrain(work: Path, config: str, device: str, home: Path) -> None:
    """Train the small world's models from a seed; checkpoints, sample grids and models land in WORK."""
    _prepare(home)
    from flows.pretrain import pretrain as flow

    click.echo(f"models: {flow(work, device, home, config)}")


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@home_option
def ui(port: int, home: Path) -> None:
    """Serve the MLflow UI on 127.0.0.1."""
    _prepare(home)
    from flows.ui import serve

    serve(home, port)


def _prepare(home: Path) -> None:
    prepare(home)
    from flows.environment import quiet_libraries
    from l2s_core.files import make_folder

    make_folder(home)
    quiet_libraries()


def _overrides(settings: tuple[str, ...], quick: bool = False, config: str = "") -> dict[str, Any]:
    import yaml

    from l2s_core.config import load_preset
    from l2s_core.errors import UserError

    values: dict[str, Any] = {"name": f"{Path(config).stem}-quick", **load_preset("quick")} if quick else {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise UserError(f"--set {setting!r} is not KEY=VALUE; e.g. --set data.train=50")
        values[key] = yaml.safe_load(text)
    return values


if __name__ == "__main__":
    main()
