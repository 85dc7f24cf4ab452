"""Lets tests record evidence for targets: `pytest --write-evidence`.

A test that proves something about a target calls the fixture `evidence` at its end. Nothing is
written without the option, or if the test or the teardown of a fixture fails afterwards: the
fixture that emulates AMX checks for faults during teardown.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from handglass.targets.evidence import FOLDER, Entry
from handglass.targets.evidence_writing import add_entry, entry_of

PASSED, NOTED = pytest.StashKey[bool](), pytest.StashKey[list[tuple[str, Entry]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("handglass")
    group.addoption(
        "--write-evidence",
        action="store_true",
        help="record passing tests as evidence of their target (targets/evidence)",
    )
    group.addoption(
        "--evidence-folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder to write evidence to",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    elif report.when == "teardown" and report.passed and item.stash.get(PASSED, False):
        write(item)
    return report


def write(item: pytest.Item) -> None:
    if not item.config.getoption("--write-evidence"):
        return
    for target, entry in item.stash.get(NOTED, []):
        add_entry(target, entry, item.config.getoption("--evidence-folder"))


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`evidence(target, what, ...)` adds an entry; the arguments are those of `entry_of`."""
    test: pytest.Function = request.node
    noted = test.stash.setdefault(NOTED, [])

    def note(target: str, what: str, **where: Any) -> None:
        noted.append((target, entry_of(what, f"{test.path.name}::{test.originalname}", **where)))

    return note
