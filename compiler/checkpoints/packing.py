"""How others packed the weights of a checkpoint: `quantization_config` of config.json.

Two methods are supported, AWQ (as AutoAWQ writes it, version "gemm") and GPTQ (as AutoGPTQ and
GPTQModel write it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

from .fields import Fields

KEY = "quantization_config"
WHERE = f"config.json {KEY}"
METHOD = "quant_method"
AWQ_BITS = 4
GPTQ_BITS = (2, 3, 4, 8)
GPTQ_FORMATS = {"gptq": 1, "gptq_v2": 0}
"""Format -> what is added to a stored zero point."""
WHOLE_ROW = -1


@dataclass(frozen=True)
class Packing:
    """Integers of `bits` bits in words of 32 bits; `group_size` inputs share a scale and a zero
    point, None: all of them."""

    method: str
    bits: int
    group_size: int | None
    zero_offset: int = 0
    needs_order: bool = False
    """Inputs are in groups in any order, which g_idx lists."""


def packing_of(config: Mapping[str, Any]) -> Packing | None:
    """The packing of a parsed config.json; None if the weights are plain numbers.

    Raises InputError for a method or an option that is not supported.
    """
    if config.get(KEY) is None:
        return None
    fields = Fields(config[KEY], WHERE)
    method = fields.get(METHOD)
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            f"{WHERE}: {METHOD} is {method!r:.100}, which is not supported; known: "
            f"{', '.join(METHODS)}; or compile from the original checkpoint"
        )
    return METHODS[method](fields)


def _awq(fields: Fields) -> Packing:
    fields.expect("bits", AWQ_BITS)
    fields.expect("zero_point", True)
    version = fields.get("version")
    if version is not None and str(version).lower() != "gemm":
        raise InputError(f"{WHERE}: version is {version!r:.100}, but only 'gemm' is supported")
    return Packing("awq", AWQ_BITS, _group_size(fields))


def _gptq(fields: Fields) -> Packing:
    bits = fields.integer("bits")
    if bits not in GPTQ_BITS:
        known = ", ".join(map(str, GPTQ_BITS))
        raise InputError(f"{WHERE}: bits is {bits}, which is not supported; known: {known}")
    for key, only in {"is_marlin_format": False, "pack_dtype": "int32", "dynamic": {}}.items():
        fields.expect(key, only)
    form = fields.get("checkpoint_format") or "gptq"
    if not isinstance(form, str) or form not in GPTQ_FORMATS:
        known = ", ".join(GPTQ_FORMATS)
        raise InputError(
            f"{WHERE}: checkpoint_format is {form!r:.100}, which is not supported; known: {known}"
        )
    order = fields.flag("desc_act", False)
    return Packing("gptq", bits, _group_size(fields), GPTQ_FORMATS[form], order)


def _group_size(fields: Fields) -> int | None:
    if fields.get("group_size") == WHOLE_ROW:
        return None
    return fields.integer("group_size", minimum=2)


METHODS: Mapping[str, Callable[[Fields], Packing]] = {"awq": _awq, "gptq": _gptq}
