"""One setting for both databases: L2S_DATABASE, a PostgreSQL server that holds MLflow's and Prefect's.

Without it both use sqlite files in the folder of runs. Its password stands in no address that is made of it, and so on
no command line, in no error, log or record. Nothing heavy is imported here: commands read the setting
before Prefect and MLflow are loaded.
"""

from __future__ import annotations

import os
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from l2s_core.errors import UserError, masked

SETTING = "L2S_DATABASE"
DRIVERS = {"mlflow": "postgresql+psycopg2", "prefect": "postgresql+asyncpg"}


def database_url(name: str) -> str | None:
    """Return the SQLAlchemy address of MLflow's or Prefect's database on the server that is set, or None without one.

    It holds no password: both drivers take that from libpq's variables, see `hand_over_password`. Raises UserError for
    a setting that is no PostgreSQL server, or that has options: the drivers name them differently.
    """
    parts = _setting()
    if parts is None:
        return None
    return urlunsplit((DRIVERS[name], _without_password(parts), _database(name), "", ""))


def hand_over_password() -> None:
    """Take the password out of the setting and give it to the drivers of this process and of those that it starts.

    They read PGPASSWORD from their environment, which other users of the machine cannot see. A setting without one
    leaves them to PGPASSWORD, or to the file that PGPASSFILE names, which they read only if it has mode 600.
    """
    parts = _setting()
    if parts is None or parts.password is None:
        return
    os.environ["PGPASSWORD"] = unquote(parts.password)
    os.environ[SETTING] = urlunsplit((parts.scheme, _without_password(parts), "", "", ""))


def _setting() -> SplitResult | None:
    """Return the parts of the setting, or None where it is not set; errors are those of `database_url`."""
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
            f"{SETTING} is {masked(setting)!r}; expected postgresql://user:password@host:port, without a database name"
        )
    return parts


def _without_password(parts: SplitResult) -> str:
    """Return user, host and port of an address."""
    user, at, host = parts.netloc.rpartition("@")
    return user.partition(":")[0] + at + host


def create_databases() -> None:
    """Create the two databases on the server that is set, where they are not there yet; without one, do nothing."""
    hand_over_password()
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
            f"cannot reach the PostgreSQL server of {SETTING} ({masked(reason)}); start it, or unset {SETTING}"
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
