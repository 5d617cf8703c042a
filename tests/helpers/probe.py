"""What a process is like, as JSON: `python -m helpers.probe --home HOME`, which ends with code 3."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from flows.environment import PREPARED, prepare

OWN = (PREPARED, "PYTHONPATH", "_")  # what two processes may differ in


def main() -> None:
    """Print it."""
    prepare(Path(sys.argv[2]))
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    facts = {
        "arguments": sys.argv[1:],
        "environment": {name: value for name, value in os.environ.items() if name not in OWN},
        "folder": os.getcwd(),
        "parent": os.getppid(),
        "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
        "main": sys.modules["__main__"].__spec__.name,
        "threads": len(os.listdir("/proc/self/task")),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "prefect": [str(settings.home), settings.api.url, settings.server.ephemeral.startup_timeout_seconds],
        "input": sys.stdin.read(),
    }
    print(json.dumps(facts))
    print("an error", file=sys.stderr)
    threading.Thread(target=print, args=["from a thread"]).start()
    sys.exit(3)


if __name__ == "__main__":
    main()
