"""A checkpoint as the cache of a hub holds it: symbolic links to blobs, and Python files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from odd_models import UNTIED, write_checkpoint
from safetensors.numpy import load_file

from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.plan import plan_model

CODE = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """snapshots/REVISION/NAME -> ../../blobs/HASH for every file."""
    plain = write_checkpoint(tmp_path / "plain", UNTIED, "float32")
    (plain / "modeling_minicpmv.py").write_text(CODE)
    cache = tmp_path / "models--openbmb--MiniCPM-V"
    folder, blobs = cache / "snapshots" / "0123abcd", cache / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for file in plain.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        (folder / file.name).symlink_to(Path("../../blobs") / blob.name)
    return folder


def test_links_are_followed_and_code_is_not_run(snapshot: Path) -> None:
    plan = plan_model(snapshot)
    assert plan.model.tensors_checked and plan.model.tokenizer == "tokenizer.model"
    checkpoint = open_checkpoint(snapshot)
    for name, expected in load_file(snapshot / "model.safetensors").items():
        assert np.array_equal(checkpoint.read(name, expected.shape), expected)
    assert not list(snapshot.parents[1].rglob("*.ran"))
