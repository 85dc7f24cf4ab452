"""How a bundle that answers no questions is tried on the device, and the command to use it there.

`handglass doctor` tries it: an encoder makes one row, an imported graph is applied to zeros.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import join
from typing import Any

from handglass.errors import DeviceError, UsageError
from handglass.runtime.bundle.entries import GraphEntry
from handglass.runtime.bundle.manifest import Manifest

from .question import Question, sent_pictures
from .start import BUNDLE
from .transport import Done, failed

HANDGLASS = "./handglass"
RESULTS = "results.npz"


def trial(manifest: Manifest, text: str | None, images: Sequence[Path]) -> Question:
    """The trial of a bundle, and a command with `text` and `images` where it takes them.

    Raises UsageError if it does not take them.
    """
    pictures = sent_pictures(images)
    names = [item.name for item in pictures]
    _check_given(manifest, text, names)
    if manifest.graph is not None:
        words = apply_words(manifest.graph)
    else:
        words = encoder_words(manifest, text, names)
    script = join([HANDGLASS, "doctor", BUNDLE, "--json"])
    return Question(pictures, join([HANDGLASS, *words]), script, _read_checks)


def _check_given(manifest: Manifest, text: str | None, pictures: Sequence[str]) -> None:
    takes_texts = manifest.encoders is not None and manifest.encoders.text is not None
    if text is not None and not takes_texts:
        raise UsageError(f"--prompt: {manifest.model.name} takes no texts")
    if pictures and manifest.vision is None:
        raise UsageError(f"--image: {manifest.model.name} takes no pictures")


def apply_words(graph: GraphEntry) -> list[str]:
    """`apply` with a file for each input, called like it as far as a file can be."""
    words = ["apply", BUNDLE]
    for entry in graph.inputs:
        file = re.sub(r"[^\w.-]", "_", entry.name, flags=re.ASCII)
        words += ["--input", f"{entry.name}={file}.npy"]
    return [*words, "-o", RESULTS]


def encoder_words(manifest: Manifest, text: str | None, pictures: Sequence[str]) -> list[str]:
    """`classify` for an encoder that has labels or reads them, `embed` for any other."""
    if manifest.vision is None:
        return ["embed", BUNDLE, "--text", text or "Hello"]
    encoders = manifest.encoders
    shown = [word for name in pictures or ["PICTURE"] for word in ("--image", name)]
    if encoders is not None and encoders.text is not None:
        return ["classify", BUNDLE, *shown, "--label", text or "TEXT", "--label", "ANOTHER"]
    has_labels = encoders is not None and encoders.labels
    return ["classify" if has_labels else "embed", BUNDLE, *shown]


def _read_checks(where: str, done: Done) -> dict[str, Any]:
    """Name -> result of the last check of `doctor`, which is the trial."""
    if not done.out.startswith("{"):
        raise failed(where, "trying the bundle", done)
    result = json.loads(done.out.splitlines()[-1])
    if "checks" not in result:
        raise DeviceError(f"{where}: {result['error']['message']}")
    last = result["checks"][-1]
    if last["ok"] is not True:
        broken = [f"{c['name']}: {c['value']}" for c in result["checks"] if c["ok"] is False]
        raise DeviceError(f"{where}: the bundle does not run there: {'; '.join(broken)}")
    return {last["name"]: last["value"]}
