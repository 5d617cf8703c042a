"""A plugin of pytest: what the tests cost, in CPU seconds of their processes and of all that these started.

`--costs N` prints the N tests that cost most, the whole of the suite, and how fast this machine multiplies: seconds
differ between machines by a factor of two and more, their product with that speed does not.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch

SIDE = 2048
PROPERTY = "cpu_seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", type=int, default=0, metavar="N", help="print the N tests that cost most CPU seconds")


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before = cpu_seconds()
    item.user_properties.append((PROPERTY, lambda: cpu_seconds() - before))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A fixture counts for the test that made it first."""
    report = yield
    report.user_properties = [(name, value() if name == PROPERTY else value) for name, value in report.user_properties]
    return report


def gflops() -> float:
    """Float32 products of 2048 x 2048 matrices, by all of this machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    matrix = torch.rand(SIDE, SIDE)
    matrix @ matrix
    began = time.perf_counter()
    for _ in range(5):
        matrix @ matrix
    seconds = (time.perf_counter() - began) / 5
    torch.set_num_threads(threads)
    return 2 * SIDE**3 / seconds / 1e9


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.getoption("--costs")
    if not count:
        return
    tests: dict[str, float] = defaultdict(float)
    files: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                seconds = dict(report.user_properties)[PROPERTY]
                tests[report.nodeid] = seconds
                files[report.nodeid.partition("::")[0]] += seconds
    terminalreporter.section("CPU seconds")
    for table in (files, tests):
        for name, seconds in sorted(table.items(), key=lambda pair: -pair[1])[:count]:
            terminalreporter.write_line(f"{seconds:8.1f}  {name}")
    speed = gflops()
    total = cpu_seconds()
    terminalreporter.write_line(f"{total:.0f} CPU seconds in all x {speed:.0f} GFLOP/s = {total * speed:.0f}")
