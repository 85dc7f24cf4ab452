"""What tests prove about targets is written down by the tests: `pytest --write-evidence`.

A test that proves something takes the fixture `evidence` and calls it at its end. Nothing is
written without the option, nor where the test fails afterwards or while it is torn down.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from handglass.targets.evidence import FOLDER, Entry
from handglass.targets.evidence_writing import add_entry, entry_of

PASSED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("handglass")
    group.addoption(
        "--write-evidence",
        action="store_true",
        help="write what passes to the evidence of its target (targets/evidence)",
    )
    group.addoption(
        "--evidence-folder", type=Path, default=FOLDER, metavar="DIR", help="write it there instead"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """`evidence(target, what, ...)` notes an entry; the arguments are those of `entry_of`."""
    config, noted = request.config, list[tuple[str, Entry]]()
    by = f"{request.path.name}::{getattr(request.node, 'originalname', request.node.name)}"

    def note(target: str, what: str, **where: Any) -> None:
        noted.append((target, entry_of(what, by, **where)))

    yield note
    if config.getoption("--write-evidence") and request.node.stash.get(PASSED, False):
        for target, entry in noted:
            add_entry(target, entry, config.getoption("--evidence-folder"))
