"""Which GPU runs which image of a bundle, and the reason if none."""

from __future__ import annotations

import pytest

from handglass.runtime.devices.cuda.architectures import runs, why_unfit


@pytest.mark.parametrize(
    ("image", "able", "unable"),
    [
        ("sm_80", (80, 86, 89), (75, 87, 90, 120)),
        ("sm_86", (86, 89), (80, 87, 90)),
        ("sm_87", (87,), (80, 86, 89)),  # a Jetson's chip and cards do not share machine code
        ("sm_110", (110,), (100, 101, 120)),
        ("compute_75", (75, 80, 87, 110, 120), (70, 72)),
        ("sm_90a", (), (90,)),
        ("unknown", (), (80,)),
    ],
)
def test_an_image_runs_on(image: str, able: tuple[int, ...], unable: tuple[int, ...]) -> None:
    assert [n for n in (*able, *unable) if runs(image, n)] == list(able)


def test_one_image_is_enough() -> None:
    assert why_unfit(("sm_75", "sm_90"), 90) == ""
    assert why_unfit((), 90) == ""  # a bundle that says nothing


def test_the_reason_names_the_chip_and_the_code() -> None:
    assert why_unfit(("sm_87", "compute_87"), 75) == (
        "it has compute capability 7.5, and the bundle has code for sm_87, compute_87, and its PTX "
        "is for compute capability 8.7 and later"
    )
    assert why_unfit(("sm_87",), 120) == (
        "it has compute capability 12.0, and the bundle has code for sm_87"
    )
