"""Which operators of a graph are ours, and what the rest is: the plan of a compilation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import relax

from .attention_pattern import AttentionMatch, NotOursError, find_attention
from .graph import Graph, is_float, name_of, operands, shape_of, size_of
from .patches_pattern import PatchesMatch, find_patches
from .patterns import (
    ActivationMatch,
    LinearMatch,
    NormMatch,
    find_activation,
    find_linear,
    find_norm,
)

Match = LinearMatch | NormMatch | ActivationMatch | AttentionMatch | PatchesMatch
KINDS: Mapping[type, str] = {
    LinearMatch: "matmul",
    NormMatch: "layer norm",
    ActivationMatch: "gelu",
    AttentionMatch: "attention",
    PatchesMatch: "patches",
}
"""Match -> its name in reports."""
FREE = ("reshape", "permute_dims", "squeeze", "expand_dims", "")
"""Operators that compute nothing."""


@dataclass(frozen=True)
class Recognised:
    """Variable -> the operator of ours that computes it; and why attention was not recognised."""

    matches: Mapping[relax.Var, Match]
    needed: frozenset[relax.Var]
    """The variables that are computed: not those inside a match that nothing else reads."""
    reasons: Mapping[str, int] = field(default_factory=dict)


def recognise(graph: Graph) -> Recognised:
    """Find our operators, the largest ones first."""
    matches: dict[relax.Var, Match] = {}
    reasons: Counter[str] = Counter()
    for var in filter(is_float, graph.order):
        try:
            if (attention := find_attention(graph, var)) is not None:
                matches[attention.root] = attention
        except NotOursError as error:
            reasons[str(error)] += 1
    finders: tuple[Callable[[Graph, relax.Var], Match | None], ...] = (
        find_patches,
        find_linear,
        find_norm,
        find_activation,
    )
    for finder in finders:
        for var in filter(is_float, graph.order):
            if var not in matches and (match := finder(graph, var)) is not None:
                matches.setdefault(match.root, match)
    for root, found in matches.items():
        if isinstance(found, AttentionMatch):
            matches[root] = replace(found, stacked=_stacked(found, matches))
    return Recognised(matches, frozenset(_needed(graph, matches)), reasons)


def attends_to_all(recognised: Recognised) -> bool:
    """Whether attention sees all positions somewhere; its scores are never integers otherwise."""
    found = (m for m in recognised.matches.values() if isinstance(m, AttentionMatch))
    return any(match.mask is None and not match.is_causal for match in found)


def _stacked(match: AttentionMatch, matches: Mapping[relax.Var, Match]) -> tuple[LinearMatch, ...]:
    """The projections before attention, if they can be one product."""
    bases = [heads.base for heads in (match.q, match.k, match.v)]
    found = [matches.get(base) for base in bases]
    linear = [one for one in found if isinstance(one, LinearMatch)]
    if len(linear) < 3 or len({hash(base) for base in bases}) < 3:
        return ()
    is_same = all(one.x.same_as(linear[0].x) for one in linear)
    return tuple(linear) if is_same and len({one.bias is None for one in linear}) == 1 else ()


def sources_of(graph: Graph, match: Match) -> list[relax.Var]:
    """The variables that a match reads."""
    if isinstance(match, AttentionMatch):
        mask = [] if match.mask is None else list(operands(match.mask))
        if match.stacked:
            return [match.stacked[0].x, *mask]
        return [*(h.base for h in (match.q, match.k, match.v)), *mask]
    return [match.x] if isinstance(match.x, relax.Var) else []


def _needed(graph: Graph, matches: Mapping[relax.Var, Match]) -> set[relax.Var]:
    found: set[relax.Var] = set()
    left = list(graph.outputs)
    while left:
        var = left.pop()
        if var in found or var not in graph.values:
            continue
        found.add(var)
        match = matches.get(var)
        left.extend(sources_of(graph, match) if match else operands(graph.values[var]))
    return found


@dataclass(frozen=True)
class Coverage:
    """How much of the work of a graph is in our operators; operations, two per multiply-add."""

    recognised: Mapping[str, int]
    """Kind of operator -> how many were found."""
    default: Mapping[str, int]
    """Operator of the importer -> how many run on default schedules."""
    flops: float
    recognised_flops: float
    reasons: Mapping[str, int]

    @property
    def share(self) -> float:
        return self.recognised_flops / self.flops if self.flops else 1.0

    @property
    def json(self) -> dict[str, Any]:
        """For `report.json`."""
        return {
            "recognised": dict(self.recognised),
            "default": dict(self.default),
            "flops": self.flops,
            "recognised_flops": self.recognised_flops,
            "share": self.share,
            "reasons": dict(self.reasons),
        }


def cover(graph: Graph, recognised: Recognised) -> Coverage:
    """Count what was found."""
    ours: Counter[str] = Counter()
    rest: Counter[str] = Counter()
    done = total = 0.0
    for var in graph.order:
        if var not in recognised.needed:
            continue
        match = recognised.matches.get(var)
        if match:
            flops = flops_of_match(graph, match)
            ours[KINDS[type(match)]] += 1
            if stacked := getattr(match, "stacked", ()):
                ours["matmul"] += len(stacked)
            done += flops
        else:
            value = graph.values[var]
            flops = flops_of(value, var)
            if (name := name_of(value)) not in FREE:
                rest[name] += 1
        total += flops
    return Coverage(ours, dict(rest.most_common()), total, done, recognised.reasons)


def flops_of_match(graph: Graph, match: Match) -> float:
    if isinstance(match, AttentionMatch):
        q, n = match.q, match.k.n
        before = sum(flops_of_match(graph, one) for one in match.stacked)
        return before + 4.0 * q.batch * q.heads * q.n * n * q.d
    if isinstance(match, LinearMatch | PatchesMatch):
        shape = shape_of(match.weight)
        outputs = shape[1] if isinstance(match, LinearMatch) else shape[0]
        return 2.0 * size_of(match.root) * math.prod(shape) / outputs
    return 8.0 * size_of(match.root)


def flops_of(value: Any, var: relax.Var) -> float:
    """Of an operator of the importer: those of products and convolutions, else one per result."""
    name = name_of(value)
    if name in FREE or not isinstance(var.ty, relax.TensorType):
        return 0.0
    if name == "matmul":
        return 2.0 * size_of(var) * shape_of(value.args[0])[-1]
    if name.startswith("nn.conv"):
        return 2.0 * size_of(var) * math.prod(shape_of(value.args[1])[1:])
    return float(size_of(var))
