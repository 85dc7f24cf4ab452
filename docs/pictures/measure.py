"""Writes the data of pictures that need a compiled model: what a bundle consists of, what it keeps.

python docs/pictures/measure.py        # compiles the demo model in four schemes, a minute or two
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from layouts import DATA

from handglass.compiler.build import compile_model
from handglass.compiler.parity.ratios import report
from handglass.compiler.verify import verify
from handglass.runtime.bundle.reader import Bundle

DEMO = Path(__file__).parents[2] / "examples" / "demo-checkpoint"
SCHEMES = ("f32", "bf16", "w8a8", "w4a8")
TARGET = "x86-64-v3"
"""Figures must not depend on the machine, as long as it has AVX2."""
MEANINGS = {
    "lib.so": "the compiled functions, with the pool of threads",
    "params": "weights, packed for the target, mapped without a copy",
    "tokenizer": "as in the checkpoint",
    "libtvm_runtime": "TVM's virtual machine; --no-runtime leaves it out",
    "report": "kernels, their schedules and records",
}
PARTS = {"vpm": "vision", "resampler": "resampler", "embed_tokens": "embedding and head"}


def meaning(name: str) -> str:
    return next((words for part, words in MEANINGS.items() if name.startswith(part)), "")


def part(name: str) -> str:
    return next((words for key, words in PARTS.items() if key in name), "decoder")


def contents(folder: Path) -> dict[str, Any]:
    """The files and parameters of a bundle, in bytes."""
    manifest = Bundle.open(folder).manifest
    sizes: Counter[str] = Counter()
    for entry in manifest.params:
        sizes[part(entry.name)] += entry.nbytes
    files = [[name, file.size, meaning(name)] for name, file in manifest.files.items()]
    scheme = ", ".join(f"{how} ({what})" for what, how in manifest.scheme.items())
    return {
        "target": manifest.target.name,
        "scheme": scheme,
        "files": sorted(files, key=lambda file: -file[1]),
        "parts": sizes.most_common(),
    }


def write(name: str, value: Any) -> None:
    (DATA / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        compile_model(DEMO, Path(folder, "sizes"), target=TARGET)
        write("bundle", contents(Path(folder, "sizes")))
        kept = {}
        for scheme in SCHEMES:
            bundle = Path(folder, scheme)
            compile_model(DEMO, bundle, target=TARGET, quantization=scheme)
            found = report(verify(bundle, DEMO))
            kept[scheme] = found["stages"]
        write("accuracy", kept)
        write("layers", found["arrivals"])  # of the last scheme
