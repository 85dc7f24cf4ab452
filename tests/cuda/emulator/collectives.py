"""Instructions of a whole warp: shuffles, votes, reductions, matrices; and control flow."""

from __future__ import annotations

from .instructions import emits
from .ptx_types import C_TYPES
from .site import Site

_SOURCES = {
    "up": ("l - int(distance & 31)", "j >= most"),
    "down": ("l + int(distance & 31)", "j <= most"),
    "bfly": ("l ^ int(distance & 31)", "j <= most"),
    "idx": ("segment | (int(distance & 31) & ~mask_bits)", "j <= most"),
}


ELSEWHERE = "lanes that the mask names are elsewhere: divergent collective"


def _here(site: Site, mask_operand: int) -> str:
    """Every lane's mask must name the lanes that are here, and all of those that live."""
    names = f"const u32 n = {site.value(mask_operand, 'u32')};"
    code = f"{names} named |= n; stray |= (~n >> l & 1) << l;"
    meets = site.meets("named", "stray", ELSEWHERE)
    return f"u32 named = 0, stray = 0; {site.each_active(code)} {meets}"


@emits("shfl", "sync up down bfly idx")
def shuffle(site: Site) -> str:
    """A lane that reads one that is not here gets a NaN, whatever its type."""
    if not site.has("sync"):
        raise site.unknown("a shuffle without .sync")
    source, valid = _SOURCES[site.one_of(*_SOURCES)]
    targets = [t.strip() for t in site.operand(0).split("|")]
    reads = f"const u32 distance = {site.value(2, 'u32')}, limits = {site.value(3, 'u32')};"
    lane = (
        "const int mask_bits = int(limits >> 8 & 31), segment = l & mask_bits;"
        f" const int most = segment | (int(limits & 31) & ~mask_bits); int j = {source};"
        f" valid[l] = u32({valid}); if (!valid[l]) j = l;"
        " found[l] = active >> j & 1 ? given[j] : ~0u;"
    )
    stores = [site.assign(targets[0], "b32", "found[l]", masked=False)]
    stores += [site.assign(t, "pred", "valid[l]", masked=False) for t in targets[1:]]
    arrays = f"u32 given[32], found[32], valid[32]; LANES(l) given[l] = {site.value(1, 'u32')};"
    body = site.each_active(reads + lane) + " " + site.each_active(" ".join(stores))
    return f"{{ {site.active()} {_here(site, 4)} {arrays} {body} }}"


@emits("vote", "sync ballot any all uni")
def vote(site: Site) -> str:
    how = site.one_of("ballot", "any", "all", "uni")
    found = {
        "ballot": "yes",
        "any": "yes != 0",
        "all": "yes == active",
        "uni": "yes == active || yes == 0",
    }[how]
    says = f"yes |= ({site.value(1, 'pred')}) << l;"
    count = f"u32 yes = 0; {site.each_active(says)}"
    store = site.assign(site.operand(0), "b32" if how == "ballot" else "pred", found, masked=False)
    return f"{{ {site.active()} {_here(site, 2)} {count} {site.each_active(store)} }}"


@emits("match", "any all sync")
def match(site: Site) -> str:
    """Lanes with the same value: each lane's (any), or all of them or none (all)."""
    c_type = C_TYPES[site.type]
    arrays = f"{c_type} given[32]; u32 same[32]; LANES(l) given[l] = {site.value(1)};"
    compare = "same[l] = 0; for (int j = 0; j < 32; j++)"
    compare += " same[l] |= u32((active >> j & 1) && given[j] == given[l]) << j;"
    targets = [t.strip() for t in site.operand(0).split("|")]
    found = "same[l]" if site.has("any") else "(same[l] == active ? active : 0)"
    stores = [site.assign(targets[0], "b32", found, masked=False)]
    stores += [site.assign(t, "pred", "same[l] == active", masked=False) for t in targets[1:]]
    body = f"{site.each_active(compare)} {site.each_active(' '.join(stores))}"
    return f"{{ {site.active()} {_here(site, 2)} {arrays} {body} }}"


_REDUCED = {
    "add": "add(sum, x)",
    "min": "least(sum, x)",
    "max": "largest(sum, x)",
    "and": "sum & x",
    "or": "sum | x",
    "xor": "sum ^ x",
}


@emits("redux", "sync " + " ".join(_REDUCED))
def reduction(site: Site) -> str:
    c_type, how = C_TYPES[site.type], _REDUCED[site.one_of(*_REDUCED)]
    combine = f"const {c_type} x = {site.value(1)}; sum = first ? x : {c_type}({how});"
    code = f"{c_type} sum{{}}; bool first = true; {site.each_active(combine + ' first = false;')}"
    store = site.assign(site.operand(0), site.type, "sum", masked=False)
    return f"{{ {site.active()} {_here(site, 2)} {code} {site.each_active(store)} }}"


@emits("activemask")
def active_lanes(site: Site) -> str:
    store = site.assign(site.operand(0), "b32", "active", masked=False)
    return f"{{ {site.active()} {site.each_active(store)} }}"


@emits("bra", "uni")
def branch(site: Site) -> str:
    target = site.frame.labels.get(site.operand(0))
    if target is None:
        raise site.unknown("no such label")
    if not site.instruction.guard:
        return f"{site.goes(target, 'm')} return false;"
    both = f"{site.goes(target, 'active')} {site.goes(site.following, 'm & ~active')}"
    return f"{site.active()} {both} return false;"


@emits("brx", "idx uni")
def indexed_branch(site: Site) -> str:
    """To the label of a list that each lane's index says."""
    targets = site.frame.targets.get(site.operand(1))
    if targets is None:
        raise site.unknown("no such list of labels")
    index = site.value(0, "u32")
    lines = [
        f"{{ u32 these = 0; LANES(l) these |= u32({index} == {i}) << l;"
        f" {site.goes(site.frame.labels[label], 'active & these')} }}"
        for i, label in enumerate(targets)
    ]
    others = site.goes(site.following, "m & ~active")
    return f"{site.active()} {' '.join(lines)} {others} return false;"


@emits("ret exit", "uni")
def leave(site: Site) -> str:
    others = site.goes(site.following, "m & ~active")
    return f"{site.active()} w.leave(active); {others} return false;"


@emits("trap")
def trap(site: Site) -> str:
    return f'{site.active()} if (active) fail({site.may_fail()}, "trap", active);'


@emits("bar barrier", "sync arrive warp cta aligned")
def barrier(site: Site) -> str:
    """`bar.warp.sync` needs its lanes here; the others end the block of instructions."""
    if site.has("warp"):
        return f"{{ {site.active()} {_here(site, 0)} }}"
    if not (site.has("sync") or site.has("arrive")):
        raise site.unknown("unknown instruction")
    number = _first_lane(site, 0)
    threads = _first_lane(site, 1) if len(site.operands) > 1 else "0"
    waits = "true" if site.has("sync") else "false"
    meets = site.meets("w.live", "0", "barrier in a divergent warp")
    call = f"if (active) arrive(w, {number}, {threads}, {waits}, active, {site.may_fail()});"
    return f"{{ {site.active()} {meets} {call} }}"


def _first_lane(site: Site, operand: int) -> str:
    """The value of the first active lane; a barrier's number is the same for all."""
    return f"[&] {{ const int l = __builtin_ctz(active); return {site.value(operand, 'u32')}; }}()"
