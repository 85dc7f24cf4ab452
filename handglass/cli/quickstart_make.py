"""Compiles and verifies the bundle of `handglass quickstart`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.reader import read_manifest

from .checks import importing_compiler
from .output import size_text
from .progress import progress
from .quickstart_choice import Choice, choose, estimate, estimate_verify, time_text
from .quickstart_say import say
from .quickstart_shelf import Note, Request, Slot, kept, manifest_hash

if TYPE_CHECKING:
    import numpy as np


def compile_into(slot: Slot, request: Request, check: bool = True) -> Note:
    """Choose, say what will be done, and do it. An interruption leaves nothing.

    Raises DeviceError if nothing fits, and as `compile_model` does.
    """
    with importing_compiler():
        from handglass.compiler.build import compile_model
        from handglass.compiler.plan import plan_model
    common: dict[str, Any] = {"mmproj": request.mmproj, "target": request.target, "overwrite": True}
    planner = partial(plan_model, request.checkpoint, output=slot.bundle, **common)
    choice = choose(planner, request.quantization, request.context)
    say(announcement(slot, choice, check))
    began = time.monotonic()
    with progress() as advance:
        report = compile_model(
            request.checkpoint, slot.bundle, progress=advance, **common, **choice.options
        )
    seconds = time.monotonic() - began
    say(f"compiled in {time_text(seconds)}, {size_text(report.bundle_bytes)}")
    note = note_of(slot, request, choice, seconds, report.bundle_bytes)
    slot.write(note)
    return note


def note_of(slot: Slot, request: Request, choice: Choice, seconds: float, size: int) -> Note:
    return Note(
        manifest=manifest_hash(slot.bundle),
        checkpoint=str(request.checkpoint.resolve()),
        target=choice.plan.target,
        choice=choice.text,
        parameters=choice.plan.model.parameters,
        seconds=seconds,
        bytes=size,
    )


def announcement(slot: Slot, choice: Choice, check: bool) -> str:
    """What will be compiled, where to, and how long it takes; `check`: it is verified, too."""
    plan = choice.plan
    return "\n".join(
        [
            f"model    {plan.model.name}, {plan.model.parameters / 1e6:,.1f} million parameters",
            f"storage  {choice.text}",
            f"memory   {size_text(plan.memory.resident)} when it runs",
            f"disk     {size_text(plan.disk.bundle)} in {slot.bundle}",
            f"time     {times(plan.model.parameters, check)}",
        ]
    )


def times(parameters: int, check: bool) -> str:
    """How long compiling takes, and verifying, and what that is estimated from."""
    notes = [note for _, note in kept()]
    parts = {"compile": estimate(parameters, notes)}
    if check:
        parts["verify"] = estimate_verify(parameters, notes)
    return ", ".join(
        f"about {time_text(seconds)} to {what} ({source})"
        for what, (seconds, source) in parts.items()
    )


def compare(slot: Slot, request: Request, note: Note) -> Note:
    """Verify the bundle on one small picture; the note then has the verdict.

    Raises MismatchError at a fault, after which the bundle is gone.
    """
    with importing_compiler():
        from handglass.compiler.verify import verify
    from .verify import as_text, summary

    began = time.monotonic()
    with faults_removed(slot), progress() as advance:
        try:
            pictures = pictures_for(slot)
            stages = verify(
                slot.bundle, request.checkpoint, pictures, advance, mmproj=request.mmproj
            )
        except UsageError as error:  # a family without a reference
            say(f"not verified: {error}")
            return replace(note, verdict=str(error))
        if not all(stage.ok for stage in stages):
            say(as_text(stages))
            raise MismatchError(
                f"{request.checkpoint}: the compiled model does not compute what the checkpoint "
                f"says ({summary(stages)}); its bundle was removed. Please report this with the "
                "output of 'handglass doctor'"
            )
    say(f"verified: {summary(stages)}")
    return replace(note, verdict=summary(stages), verify_seconds=time.monotonic() - began)


@contextmanager
def faults_removed(slot: Slot) -> Iterator[None]:
    """A bundle that is wrong must not be found the next time."""
    try:
        yield
    except MismatchError:
        slot.remove()
        raise


def pictures_for(slot: Slot) -> list[np.ndarray] | None:
    """What to compare on; None for a language model without vision."""
    return None if read_manifest(slot.bundle).vision is None else [small_picture()]


def small_picture() -> np.ndarray:
    """The middle of the picture of `verify`: a single tile for every model. (224, 224, 3) uint8"""
    from handglass.compiler.parity.inputs import drawn_picture

    return drawn_picture()[100:324, 200:424]
