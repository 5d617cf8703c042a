"""Commands about the MLflow and Prefect servers: up, down, ui, serve."""

from __future__ import annotations

from pathlib import Path

import click

from flows.options import home_option, start

HOST_WARNING = (
    "warning: {host} can be reached from other machines, and neither server asks who is there; "
    "use it behind a firewall only"
)


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Another address than this machine's own is open to anyone who reaches it.",
)
@click.option("--mlflow-port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--prefect-port", type=click.IntRange(1, 65535), default=4200, show_default=True)
@home_option
def up(host: str, mlflow_port: int, prefect_port: int, home: Path) -> None:
    """Start the MLflow and Prefect servers, or find those that run; commands use them until `l2s down`."""
    start(home)
    from flows.servers import LOCAL, start_servers

    if host != LOCAL:
        click.echo(HOST_WARNING.format(host=host), err=True)
    start_servers(home, host, {"mlflow": mlflow_port, "prefect": prefect_port}, click.echo)


@click.command()
@home_option
def down(home: Path) -> None:
    """Stop the servers that `l2s up` started."""
    start(home)
    from flows.servers import stop_servers

    stop_servers(home, click.echo)


@click.command()
@click.option(
    "--browser/--no-browser", default=True, show_default=True, help="Open the pages, or only print their addresses."
)
@home_option
def ui(browser: bool, home: Path) -> None:
    """Show where the UIs of MLflow and Prefect are; starts the servers that do not run."""
    start(home)
    from flows.servers import LOCAL, PORTS, start_page, start_servers

    for server in start_servers(home, LOCAL, PORTS, click.echo):
        page = start_page(home, server)
        click.echo(f"{server.name}: {page}")
        if browser:
            click.launch(page)


@click.command()
@click.argument("names", nargs=-1, metavar="[DEPLOYMENT]...")
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Run at this interval instead of the written schedule.",
)
@home_option
def serve(names: tuple[str, ...], every: float | None, home: Path) -> None:
    """Run scheduled deployments on this machine; needs `l2s up`.

    Without names these are all of configs/deployments/prefect.yaml.
    """
    start(home)
    from flows.serving import serve_deployments

    serve_deployments(names, home, every)


@click.command()
@click.argument("deployment")
@home_option
def accept(deployment: str, home: Path) -> None:
    """Hold DEPLOYMENT's scheduled reproductions against the figures, and the settings, of its latest one."""
    start(home)
    from l2s_core.config import ToleranceConfig
    from l2s_core.experiments.regression import accept, compare

    gate = accept(home, deployment)
    for difference in gate.accepted.differences(gate.latest):
        click.echo(f"settings  {difference}")
    for row in compare(gate.latest.figures, gate.accepted.figures, ToleranceConfig()):
        click.echo(f"{row.figure}  {row.last:.3f} -> {row.now:.3f}")
    click.echo(f"accepted for {deployment}: the figures of {gate.latest.run_id}")
