"""The device entry of a manifest: none for a CPU, the required capabilities for a GPU."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from written_bundle import FILES, MANIFEST, write

from handglass.errors import InputError
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.bundle.writer import BundleWriter


def test_a_bundle_of_a_cpu_says_nothing_of_devices(tmp_path: Path) -> None:
    """So that older readers of bundles still read those for CPUs."""
    path = tmp_path / "cpu"
    write(path)
    target = json.loads((path / "manifest.json").read_text())["target"]
    assert set(target) == {"name", "triple", "cpu", "features"}
    assert Bundle.open(path).manifest.target.device == "cpu"


ABILITIES = {"supports_float16": True, "max_shared_memory_per_block": 16384, "supports_int64": 0}


def test_a_bundle_of_a_gpu_says_what_it_needs(tmp_path: Path) -> None:
    target = dataclasses.replace(MANIFEST.target, device="vulkan", abilities=ABILITIES)
    manifest = dataclasses.replace(MANIFEST, target=target)
    with BundleWriter(tmp_path / "gpu") as writer:
        for name, data in FILES.items():
            writer.add_file(name, data)
        writer.finish(manifest)
    assert Bundle.open(tmp_path / "gpu").manifest.target == target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "vulkan:0"}, r"target\.device"),
        ({"device": 1}, r"target\.device"),
        ({"abilities": {"supports float16": True}}, r"target\.abilities"),
        ({"abilities": {"supports_float16": -1}}, r"target\.abilities"),
        ({"abilities": {"supports_float16": "yes"}}, r"target\.abilities"),
        ({"abilities": []}, r"target\.abilities"),
        ({"images": ["sm_87", "sm 90"]}, r"target\.images must be names"),
        ({"images": "sm_87"}, r"target\.images.* must be a list"),
        ({"ability": {}}, r"'target\.ability'"),
    ],
)
def test_what_a_target_may_not_say(change: dict[str, Any], message: str) -> None:
    data = json.loads(MANIFEST.text())
    data["target"] |= change
    with pytest.raises(InputError, match=message):
        Manifest.parse(json.dumps(data), "here")
