"""A matrix too large for one buffer is split into pieces; the product is the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from handglass.compiler import build
from handglass.compiler.build import compile_model
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
from handglass.schedules.select import find_units

pytestmark = pytest.mark.compiler
IDS = [3, 0, 17, 299, 256]


def logits(checkpoint: Path, folder: Path, scheme: str) -> tuple[Session, np.ndarray]:
    compile_model(checkpoint, folder, quantization=scheme, context=64)
    session = Session(Bundle.open(folder))
    return session, session.prefill(session.embed(IDS), 0)


@pytest.mark.large
@pytest.mark.parametrize("scheme", ["f32", "w4a8"])
def test_pieces_give_the_same_numbers(
    text_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    _, whole = logits(text_checkpoint, tmp_path / "whole", scheme)
    limit = 8192
    monkeypatch.setattr(
        build, "find_units", lambda target: replace(find_units(target), largest=limit)
    )
    session, pieces = logits(text_checkpoint, tmp_path / "pieces", scheme)
    table = [p for p in session.manifest.params if "embed_tokens.weight" in p.name]
    assert len(table) > 2, "the limit does not divide the table"
    assert all(p.nbytes <= limit for p in table)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)  # another order of additions
