"""Processes of tests as forks of one that has imported what they need, which takes about five CPU seconds.

`Forked` and `run` stand for subprocess.Popen and subprocess.run of `[sys.executable, "-m", MODULE, …]`. The process
is a child of this one, with an environment, a folder, standard streams and, if asked, a session of its own. It reads
its settings anew, and databases are copies of the session's first. What is about how a process starts takes a
real one.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from helpers import databases

from flows.environment import HOME, PREPARED, prepare
from flows.imports import NEEDED
from l2s_core.errors import UserError

ROOT = Path(__file__).parents[2]
BEGIN_PREFECT = ("reproduce", "sweep", "up")  # commands that begin a Prefect server where there is none
COMMANDS = ("flows.cli", "flows.sweep", *NEEDED)  # what these processes import
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parent ends become children of this one
NAMESPACES = "L2S_TESTS_NAMESPACES"  # a variable with the id of a process whose users, mounts and network a command has
PARTS = 3  # standard streams that are handed over
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
LENGTH = struct.Struct("!I")


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path = ROOT, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as subprocess.run does with `capture_output` and `text`."""
    pipe = subprocess.PIPE
    with Forked(arguments, env=env, cwd=cwd, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


class Forked(subprocess.Popen):
    """A process of `[sys.executable, "-m", MODULE, …]`, forked where the system can give this one its grandchildren."""

    def _execute_child(self, *arguments: Any) -> None:
        given = inspect.signature(super()._execute_child).bind(*arguments).arguments
        command = [os.fspath(part) for part in given["args"]]
        assert command[:2] == [sys.executable, "-m"], command
        if not sys.platform.startswith("linux"):
            super()._execute_child(*arguments)
            return
        order = {
            "arguments": command[2:],
            "environment": dict(given["env"]),
            "folder": os.fspath(given["cwd"]),
            "session": given["start_new_session"],
        }
        inherited = range(PARTS)
        handed = (given["p2cread"], given["c2pwrite"], given["errwrite"])
        streams = [own if theirs == -1 else theirs for own, theirs in zip(inherited, handed, strict=True)]
        _adopt(True)
        try:
            self.pid = _ask(order, streams)
        finally:
            _adopt(False)
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in PIPES))


def _adopt(yes: bool) -> None:
    ctypes.CDLL(None).prctl(SUBREAPER, int(yes), 0, 0, 0)


def _ask(order: Mapping[str, Any], streams: list[int]) -> int:
    """Have the server fork; return the process's id, once it is a child of this one."""
    text = json.dumps(order).encode()
    _, server = _server()
    socket.send_fds(server, [LENGTH.pack(len(text))], streams)
    server.sendall(text)
    (process,) = LENGTH.unpack(server.recv(LENGTH.size, socket.MSG_WAITALL))
    return process


@cache
def _server() -> tuple[subprocess.Popen, socket.socket]:
    """Start the process that forks the others; it ends with this one at the latest."""
    ours, theirs = socket.socketpair()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    variables |= {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asks for a GPU without starting CUDA, which no fork could use then
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.forks", str(theirs.fileno())],
        cwd=ROOT,
        env=variables,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    return process, ours


def end() -> None:
    """End the process that forks the others, if there is one."""
    if _server.cache_info().currsize:
        process, asked = _server()
        asked.close()
        process.wait()
        _server.cache_clear()


def serve(asked: socket.socket) -> None:
    """Fork a process for each order, until nobody is there to give one."""
    while True:
        head, streams, _, _ = socket.recv_fds(asked, LENGTH.size, PARTS)
        if not head:
            return
        (length,) = LENGTH.unpack(head)
        order = json.loads(asked.recv(length, socket.MSG_WAITALL))
        told, tells = os.pipe()
        parent = os.fork()
        if parent == 0:
            process = os.fork()
            if process == 0:
                asked.close()
                os.close(told)
                os.close(tells)
                _become(order, streams)
                return
            os.write(tells, LENGTH.pack(process))
            os._exit(0)
        os.waitpid(parent, 0)  # from now on the process is a child of who asked
        for number in (*streams, tells):
            os.close(number)
        asked.sendall(os.read(told, LENGTH.size))
        os.close(told)


def _become(order: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Run a module as `python -m` does, as if this process had just begun."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    for own, handed in enumerate(streams):
        os.dup2(handed, own)
        os.close(handed)
    os.environ.clear()
    os.environ.update(order["environment"])
    _enter(os.environ.pop(NAMESPACES, None))
    os.chdir(order["folder"])
    module, *arguments = order["arguments"]
    sys.argv[1:] = arguments
    _settle(arguments)
    atexit.register(_end_workers)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _enter(owner: str | None) -> None:
    """Enter the namespaces of another process that differ from this one's, as nsenter does."""
    for kind in ("user", "mnt", "net") if owner else ():
        theirs = f"/proc/{owner}/ns/{kind}"
        if os.path.samefile(theirs, f"/proc/self/ns/{kind}"):
            continue
        namespace = os.open(theirs, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
            raise OSError(ctypes.get_errno(), f"setns of {kind}")
        os.close(namespace)


def _end_workers() -> None:
    """Wait for what this process has workers forked from, if anything: so what it cost is counted."""
    forkserver = sys.modules.get("multiprocessing.forkserver")
    if forkserver is not None:
        forkserver._forkserver._stop()


def _settle(arguments: Sequence[str]) -> None:
    """Read the settings anew, those that libraries read when they are imported."""
    from prefect.context import refresh_global_settings_context

    homes = [value for option, value in zip(arguments, arguments[1:], strict=False) if option == "--home"]
    try:
        prepare(Path(homes[-1]) if homes else HOME)
        if arguments[0] in BEGIN_PREFECT and not {"PREFECT_API_URL", "L2S_DATABASE"} & os.environ.keys():
            databases.give_prefect(Path(os.environ["PREFECT_HOME"]))
    except UserError:  # the command meets it, too, and says so
        os.environ.pop(PREPARED, None)
        return
    refresh_global_settings_context()


def main() -> None:
    """Import, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    prepare()
    for module in COMMANDS:
        import_module(module)
    store = import_module("tasks.tracking.store")
    store._create_sqlite = databases.copied(store._create_sqlite)
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
