"""Holds a model against its checkpoint before anything is lowered.

Building a model is cheap and names every tensor that it will read. A config.json that describes
another model, perhaps one of 1,000 layers, is therefore found in seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, cast

from tvm.relax.frontend import nn

from handglass.errors import InputError

from ..checkpoints.checkpoint import Checkpoint
from .family import Family, Network
from .leaves import leaves
from .storage import Storage

Shapes = Mapping[str, tuple[int, ...]]
SHOWN = 10
"""Names of a list in a message."""
LONGEST = 4000
"""Characters of a message."""

log = logging.getLogger(__name__)


def build_for(checkpoint: Checkpoint, family: Family, config: Any, storage: Storage) -> Network:
    """Build the model that config.json describes, and check that the checkpoint has its tensors.

    A prefix that all tensor names have in addition is removed from `checkpoint`, and names of
    another layout are replaced. Raises InputError
    with the count and the names of the tensors that are missing, superfluous or of another shape.
    Warns of the towers that are left out.
    """
    checkpoint.rename(family.renames)
    network = family.build(checkpoint, config, storage)
    checkpoint.ignore(family.ignored(config))
    prefix = checkpoint.extra_prefix(tensors_of(network))
    if prefix:
        checkpoint.drop_prefix(prefix)
        network = family.build(checkpoint, config, storage)
    _check(checkpoint, tensors_of(network))
    if left_out := checkpoint.left_out():
        towers = ", ".join(f"{prefix}* ({count})" for prefix, count in left_out.items())
        log.warning("tensors that are left out: %s", towers)
    return network


def tensors_of(network: Network) -> Shapes:
    """The checkpoint tensors that the model reads, with their shapes."""
    sources = (source for _, leaf in leaves(cast(nn.Module, network)) for source in leaf.sources)
    return {source.name: source.shape for source in sources}


def _check(checkpoint: Checkpoint, expected: Shapes) -> None:
    if faults := "; ".join(_faults(checkpoint, expected)):
        text = f"{checkpoint.folder}: config.json and tensors differ: {faults}"
        raise InputError(text[:LONGEST])


def _faults(checkpoint: Checkpoint, expected: Shapes) -> Iterator[str]:
    if missing := [name for name in expected if name not in checkpoint]:
        yield f"{_count(missing)} missing: {_list(missing)}"
    present = {name: shape for name, shape in expected.items() if name in checkpoint}
    other = [
        f"{name} is {checkpoint.shape(name)}, config.json requires {shape}"
        for name, shape in present.items()
        if checkpoint.shape(name) != shape
    ]
    if other:
        yield f"{_count(other)} of another shape: {_list(other)}"
    if left := checkpoint.unused(expected):
        yield f"{_count(left)} not part of the model: {_list(left)}"


def _count(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def _list(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
