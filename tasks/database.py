"""One setting for both databases: L2S_DATABASE, a PostgreSQL server that holds MLflow's and Prefect's.

Without it both use sqlite files in the folder of runs. Nothing heavy is imported here: commands read the setting
before Prefect and MLflow are loaded.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

from l2s_core.errors import UserError

SETTING = "L2S_DATABASE"
DRIVERS = {"mlflow": "postgresql+psycopg2", "prefect": "postgresql+asyncpg"}


def database_url(name: str) -> str | None:
    """Return the SQLAlchemy address of MLflow's or Prefect's database on the server that is set, or None without one.

    Raises UserError for a setting that is no PostgreSQL server, or that has options: the drivers name them differently.
    """
    setting = os.environ.get(SETTING)
    if not setting:
        return None
    parts = urlsplit(setting)
    if parts.query or parts.fragment:  # not shown: it may be the end of a password
        raise UserError(
            f"{SETTING} has something after '?' or '#'; "
            f"options are not read there, but from libpq's variables, e.g. PGSSLMODE=require "
            "(in a password write %3F and %23)"
        )
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or parts.path.strip("/"):
        raise UserError(
            f"{SETTING} is {_masked(setting)!r}; expected postgresql://user:password@host:port, without a database name"
        )
    return urlunsplit((DRIVERS[name], parts.netloc, _database(name), "", ""))


def create_databases() -> None:
    """Create the two databases on the server that is set, where they are not there yet; without one, do nothing."""
    url = database_url("mlflow")
    if url is None:
        return
    address = url.replace(DRIVERS["mlflow"], "postgresql", 1)
    try:
        import psycopg2
    except ImportError:
        raise UserError(f"{SETTING} is set, but psycopg2 is missing; pip install 'learn-to-steer[postgres]'") from None
    try:
        connection = psycopg2.connect(address.rpartition("/")[0] + "/postgres", connect_timeout=10)
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"cannot reach the PostgreSQL server of {SETTING} ({reason}); start it, or unset {SETTING}"
        ) from None
    connection.autocommit = True  # a database cannot be created inside a transaction
    with connection.cursor() as cursor:
        for name in DRIVERS:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_database(name),))
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{_database(name)}"')
    connection.close()


def _database(name: str) -> str:
    return f"l2s_{name}"


def _masked(url: str) -> str:
    """Hide a password that an error message would show."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
