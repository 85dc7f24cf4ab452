"""The allow-list is complete: a record may name every choice that a rule requests."""

import pytest

pytest.importorskip("tvm", reason="schedules functions")
import tvm
from lowered_demo import demo_functions
from thinned import only

from handglass.schedules.choices import Open
from handglass.schedules.rule import schedule_function
from handglass.targets import find_target

pytestmark = pytest.mark.compiler

NAMES = (
    *("x86-64-v3", "x86-64-amx", "arm64", "android-arm64-i8mm"),
    *("vulkan", "vulkan-nvidia", "vulkan-nvidia-mma", "android-mali", "rtx-30"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    only(("x86-64-amx",), NAMES),
)
def test_what_rules_ask_for_they_have_said_they_offer(name: str) -> None:
    target = find_target(name)
    requested = 0
    for func in demo_functions(target).values():
        choices = Open()
        found = schedule_function(func, target.rules, tvm.target.Target(target.tvm), choices)
        assert found is not None
        for choice, options in choices.options.items():
            assert set(options) <= set(found[1].offers[choice]), (found[1].name, choice)
            requested += len(options) > 1
    assert requested > 10
