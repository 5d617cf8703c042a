"""Both servers on a real PostgreSQL: one setting, databases made on the first start, runs found in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from helpers.servers import free_port, free_ports, l2s
from helpers.small_run import SETTINGS, inherit

pytestmark = [pytest.mark.server, pytest.mark.slow]

PASSWORD = "hidden:w@rd/1"
BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))


def is_secret(text: str) -> bool:
    """Whether a text shows the password, as it is or as an address has it."""
    return PASSWORD in text or quote(PASSWORD) in text or quote(PASSWORD, safe="") in text


@pytest.fixture
def server(tmp_path_factory):
    """The address of a PostgreSQL server of our own; it refuses to run as root, so then it runs as its own user."""
    if not (BINARIES / "initdb").is_file():
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    folder = tmp_path_factory.mktemp("postgres")
    port = free_port()
    who = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    if who:
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o005:
                parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres", "postgres")

    def call(name: str, *arguments: str) -> None:
        subprocess.run(
            [BINARIES / name, "-D", folder / "data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=120,
            cwd="/",
            **who,
        )

    secret = folder / "secret"
    secret.write_text(PASSWORD)
    if who:
        shutil.chown(secret, "postgres", "postgres")
    call("initdb", "--auth=scram-sha-256", f"--pwfile={secret}", "--username=l2s", "--no-sync")
    call("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off")
    yield f"postgresql://l2s:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
    call("pg_ctl", "stop", "-m", "immediate")


def count(address: str, database: str, table: str) -> int:
    import psycopg2

    connection = psycopg2.connect(f"{address}/{database}")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        found = cursor.fetchone()[0]
    connection.close()
    return found


def test_one_setting_puts_both_servers_on_postgresql(server: str, undisturbed: Path, tmp_path: Path) -> None:
    inherit(undisturbed, tmp_path, "catalogue", "scenes", "noise", "maps", "trajectories")
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    up = l2s("up", *free_ports(), home=tmp_path, L2S_DATABASE=server)
    assert up.returncode == 0, up.stderr
    try:
        done = l2s("train", "mini-sd", *settings, home=tmp_path, L2S_DATABASE=server)
        assert done.returncode == 0, done.stderr
        assert count(server, "l2s_mlflow", "runs") == 3 and count(server, "l2s_mlflow", "metrics") > 20
        assert count(server, "l2s_prefect", "flow_run") == 1 and count(server, "l2s_prefect", "task_run") > 5
        pids = [entry["pid"] for entry in json.loads((tmp_path / "servers.json").read_text())]
        family = [
            child for pid in pids for child in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        ]
        assert len(family) >= 2 and not any(is_secret(" ".join(one.cmdline())) for one in family)
        written = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size < 50_000_000]
        assert not [path for path in written if is_secret(path.read_bytes().decode(errors="replace"))]
        assert not (tmp_path / "mlflow.db").exists() and not list((tmp_path / "prefect").glob("*.db"))
    finally:
        assert l2s("down", home=tmp_path, L2S_DATABASE=server).returncode == 0


def test_a_database_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    done = l2s("up", *free_ports(), home=tmp_path, L2S_DATABASE=f"postgresql://me:secret@127.0.0.1:{free_port()}")
    assert done.returncode == 2 and "cannot reach the PostgreSQL server of L2S_DATABASE" in done.stderr
    assert "secret" not in done.stderr and "Traceback" not in done.stderr
