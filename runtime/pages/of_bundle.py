"""The parts of a report that need no device: from the manifest and the report.json of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from handglass.errors import HandglassError

from ..bundle.manifest import Manifest
from ..bundle.reader import REPORT, Bundle
from ..bundle.report import MAX_REPORT, read_report
from ..system.json_text import parse_json
from .content import MAX_ITEMS, MAX_TEXT, About, Memory, Scheduled


def about(manifest: Manifest) -> About:
    target = manifest.target
    return About(
        model=_short(manifest.model.name),
        target=_short(target.name),
        processor=_short(f"{target.triple}, {target.cpu}"),
        kind=_short(target.device),
        features=tuple(map(_short, target.features[:MAX_ITEMS])),
        scheme=_texts(manifest.scheme),
        versions=_texts(manifest.versions),
        context=manifest.state.context,
        vocabulary=manifest.vocab_size,
        tensors=len(manifest.params),
        file_bytes=sum(file.size for file in manifest.files.values()),
        picture=_picture(manifest),
        functions=tuple(_short(name) for name in list(manifest.functions)[:MAX_ITEMS]),
        layers=tuple(sorted(set(layer_counts(manifest.model.config)))),
    )


def memory(
    manifest: Manifest,
    workspace: int | None = None,
    peak: int | None = None,
    machine: int | None = None,
) -> Memory:
    """The plan of the manifest, with what was measured."""
    weights = sum(tensor.nbytes for tensor in manifest.params)
    state = sum(tensor.nbytes for tensor in manifest.state.tensors)
    return Memory(weights, state, workspace, peak, machine)


def scheduled(bundle: Bundle) -> tuple[Scheduled, ...]:
    """The kernels of the library, the most expensive first; none without a valid report.json."""
    try:
        kernels = read_report(bundle)
        notes = _notes(bundle)
    except HandglassError:
        return ()
    found = (
        Scheduled(
            _short(name),
            _short(kernel.rule),
            _share(notes.get(name, {}).get("share")),
            kernel.record if kernel.record is None else _short(kernel.record),
            _text_or_none(notes.get(name, {}).get("device")),
        )
        for name, kernel in list(kernels.items())[:MAX_ITEMS]
    )
    return tuple(sorted(found, key=lambda kernel: -(kernel.share or 0.0)))


def layer_counts(config: Mapping[str, Any]) -> Iterator[int]:
    """The numbers of layers that a config.json states, of its towers too."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from layer_counts(value)
        elif name.endswith("layers") and type(value) is int and 0 < value < MAX_ITEMS:
            yield value


def _notes(bundle: Bundle) -> dict[str, Mapping[str, Any]]:
    """What report.json says of each kernel under `records`, which nothing has checked yet."""
    report = parse_json(bundle.read(REPORT), str(bundle.file(REPORT)), MAX_REPORT)
    kernels = report.get("records", {}).get("kernels", [])
    items = kernels if isinstance(kernels, list) else []
    return {
        str(item["function"]): item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("function"), str)
    }


def _picture(manifest: Manifest) -> str:
    vision = manifest.vision
    if vision is None:
        return "none: text only"
    side, patch = vision.image_size, vision.patch_size
    if manifest.encoders is not None:
        return f"{side}x{side} in patches of {patch}, one row of {manifest.hidden_size} columns"
    rows = vision.rows((side // patch) ** 2)
    return f"tiles of {side}x{side} in patches of {patch}, {rows} tokens each"


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _text_or_none(value: Any) -> str | None:
    return _short(value) if isinstance(value, str) else None


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    return {_short(name): _short(text) for name, text in list(values.items())[:MAX_ITEMS]}


def _short(text: str) -> str:
    return text[:MAX_TEXT]
