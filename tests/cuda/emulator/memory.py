"""Loads, stores, atomics and asynchronous copies."""

from __future__ import annotations

from .instructions import emits
from .ptx_types import C_TYPES, size_of
from .site import Site

_SPACES = ("global", "shared", "local", "const", "param")
_ORDER = "volatile relaxed acquire release acq_rel weak cta gpu sys shared_cta "
_CACHE = (
    "nc ca cg cs lu cv wb wt L1_no_allocate L1_evict_last L1_evict_first L1_evict_normal "
    "L1_evict_unchanged L2_64B L2_128B L2_256B L2_cache_hint "
)
_MODIFIERS = " ".join((*_SPACES, "v2", "v4", "v8", _ORDER, _CACHE))


def _reached(site: Site, address: int, size: int, use: str) -> str:
    """Code that turns the lanes' addresses `at` into those of the host, or fails."""
    space = "shared" if site.has("shared_cta") else site.one_of(*_SPACES) or "generic"
    if space in ("shared", "generic"):
        site.frame.granule = min(site.frame.granule, size)
    common = f"w, at, active, {size}"
    calls = {
        "shared": f"reach_shared({common}, {use}, {site.may_fail()})",
        "local": f"reach_local({common}, {site.may_fail()})",
        "param": f"reach_param({common}, {site.may_fail()})",
        "generic": f"reach_generic({common}, {use}, {site.may_fail()}, {site.access()})",
    }
    everywhere = f"reach_global({common}, {use}, {site.may_fail()}, {site.access()})"
    begin = f"u64 at[32]; LANES(l) at[l] = {site.address(address)};"
    return f"{begin} {calls.get(space, everywhere)};"


def _access(site: Site, reached: str, code: str) -> str:
    return f"{{ {site.active()} if (active) {{ {reached} {site.each_active(code)} }} }}"


@emits("ld ldu", _MODIFIERS)
def load(site: Site) -> str:
    """Of a load that was widened, what lies behind the last byte in use is not touched."""
    parts, c_type, size = site.vector(0), C_TYPES[site.type], size_of(site.type)
    if used := site.instruction.used.bit_length():
        parts = parts[: -(-used // size)]
    if site.has("param") and site.is_parameter(1, size * len(parts)):
        return _parameter(site, parts)
    code = " ".join(
        site.assign(p, site.type, f"reinterpret_cast<const {c_type}*>(at[l])[{i}]", masked=False)
        for i, p in enumerate(parts)
    )
    return _access(site, _reached(site, 1, size * len(parts), "READ"), code)


def _parameter(site: Site, parts: list[str]) -> str:
    """All lanes read the same, from a place that the translation has checked."""
    place = f"reinterpret_cast<const {C_TYPES[site.type]}*>({site.address(1)})"
    stores = (site.assign(p, site.type, f"given[{i}]") for i, p in enumerate(parts))
    return f"{{ const auto given = {place}; {site.lanes(' '.join(stores))} }}"


@emits("st", _MODIFIERS)
def store(site: Site) -> str:
    parts, c_type, size = site.vector(1), C_TYPES[site.type], size_of(site.type)
    code = " ".join(
        f"reinterpret_cast<{c_type}*>(at[l])[{i}] = {site.read(p, site.type)};"
        for i, p in enumerate(parts)
    )
    return _access(site, _reached(site, 0, size * len(parts), "WRITE"), code)


_ATOMICS = {
    "add": "add(old, given)",
    "min": "least(old, given)",
    "max": "largest(old, given)",
    "and": "old & given",
    "or": "old | given",
    "xor": "old ^ given",
    "exch": "given",
    "inc": "old >= given ? 0 : old + 1",
    "dec": "old == 0 || old > given ? given : old - 1",
    "cas": "old == given ? swapped : old",
}


@emits("atom red", "noftz " + _MODIFIERS + " ".join(_ATOMICS))
def atomic(site: Site) -> str:
    """Lanes go one after another. `red` returns nothing."""
    returns = site.instruction.name == "atom"
    how, c_type = site.one_of(*_ATOMICS), C_TYPES[site.type]
    place = 1 if returns else 0
    code = f"{c_type}* p = reinterpret_cast<{c_type}*>(at[l]); const {c_type} old = *p;"
    code += f" const {c_type} given = {site.value(place + 1)};"
    if how == "cas":
        code += f" const {c_type} swapped = {site.value(place + 2)};"
    code += f" *p = {c_type}({_ATOMICS[how]});"
    if returns:
        code += " " + site.assign(site.operand(0), site.type, "old", masked=False)
    return _access(site, _reached(site, place, size_of(site.type), "ATOMIC"), code)


@emits("cp", "async ca cg commit_group wait_group wait_all shared global " + _ORDER + _CACHE)
def copy(site: Site) -> str:
    if not site.has("async"):
        raise site.unknown("unknown instruction")
    if site.has("commit_group"):
        return f"{{ {site.active()} commit_copies(w, active); }}"
    if site.has("wait_all"):
        return f"{{ {site.active()} wait_copies(w, active, 0, true); }}"
    if site.has("wait_group"):
        return f"{{ {site.active()} wait_copies(w, active, {int(site.operand(0))}, false); }}"
    return _issued(site)


def _issued(site: Site) -> str:
    """`cp.async [to], [from], size{, filled}`; the granule is at most a word already."""
    size = int(site.operand(2))
    if size not in (4, 8, 16):
        raise site.unknown("no size of cp.async")
    filled = site.value(3, "u32") if len(site.operands) > 3 else str(size)
    arrays = "u64 to[32], from[32]; u32 filled[32];"
    lanes = f"to[l] = {site.address(0)}; from[l] = {site.address(1)}; filled[l] = {filled};"
    call = f"issue_copies(w, to, from, filled, active, {size}, {site.may_fail()}, {site.access()});"
    return f"{{ {site.active()} if (active) {{ {arrays} LANES(l) {{ {lanes} }} {call} }} }}"


@emits("membar fence", "cta gl sys gpu sc acq_rel")
def fence(site: Site) -> str:
    """Memory is in program order here; races are found by barriers alone."""
    return ""


@emits(
    "prefetch prefetchu discard griddepcontrol nanosleep",
    _MODIFIERS + "L1 L2 wait launch_dependents",
)
def advice(site: Site) -> str:
    return ""
