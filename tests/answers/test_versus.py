"""The comparison with other engines: ratios within a round, and workers that run on request."""

import json
from pathlib import Path
from typing import Any

import pytest
import versus_process
from versus import measure
from versus_engines import PEERS
from versus_peers import Configuration, Peer, PeerError
from versus_process import Worker
from versus_shape import parameters, shape_of
from versus_table import as_text, ratios
from versus_worker import require_memory

FAKE = """
import time
from versus_worker import Task, serve

print("noise while it is imported")
task = Task.read()
assert task.config == {"hidden_size": 8} and task.threads == 2 and task.folder.is_dir()
counts = {"encode": 0}

def encode():
    counts["encode"] += 1
    print("noise that a library prints")
    return float(counts["encode"])

def pp64():
    raise SystemExit("this engine cannot do it")

rows = {"pp64": pp64, "encode": encode, "answer": lambda: time.sleep(60)}
serve({"name": "fake", **task.settings}, rows)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    """A worker process in the current environment."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    config = tmp_path / "shape" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"hidden_size": 8}))
    choices = {"fast": {"mode": "1"}}
    peer = Peer("fake", str(script), "", visions=choices, decoders={"small": {"cache": "f16"}})
    worker = Worker(peer, Configuration("", "fast", "small"), tmp_path, config, 2)
    yield worker
    worker.close()


def test_a_worker_says_what_it_is_and_runs_what_it_is_told(worker: Worker) -> None:
    assert worker.about == {"name": "fake", "mode": "1", "cache": "f16"}
    assert list(worker.rows) == ["encode", "pp64", "answer"], "in the order of the table"
    assert worker.seconds("encode") == 2.0, "the first run warms up"
    assert worker.seconds("encode") == 3.0
    assert worker.seconds("busy encode") == 4.0, "the same, beside a busy process"
    assert worker.can("busy encode") and not worker.can("busy pp512")
    assert worker.peak_bytes() > 1e6


def test_a_worker_that_ends_says_why(worker: Worker) -> None:
    with pytest.raises(PeerError, match="fake .*1: "):
        worker.seconds("pp64")
    assert worker.peak_bytes() == 0


def test_a_worker_that_is_silent_is_ended(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versus_process, "ROW_LIMIT_S", 0.2)
    with pytest.raises(PeerError, match="fake ended with -9"):
        worker.seconds("answer")


def test_a_model_that_memory_does_not_hold_is_refused() -> None:
    require_memory(1.0, "the model")
    with pytest.raises(SystemExit, match="the model takes about 1000000 GB"):
        require_memory(1e15, "the model")


class Scripted:
    """An engine whose seconds are known."""

    def __init__(self, name: str, rows: tuple[str, ...], seconds: list[float], log: list) -> None:
        self.name, self.rows, self._seconds, self._log = name, rows, iter(seconds), log
        self.reason = ""

    def seconds(self, row: str) -> float:
        self._log.append((row, self.name))
        if (found := next(self._seconds, None)) is None:
            raise PeerError(self.reason)
        return found


def test_rounds_are_interleaved_and_take_turns() -> None:
    log: list = []
    ours = Scripted("handglass", ("encode", "pp64"), [1.0, 2.0, 3.0, 4.0], log)
    theirs = Scripted("other", ("encode",), [2.0, 9.0], log)
    seconds: dict = {row: {"handglass": [], "other": []} for row in ("encode", "pp64")}
    measure([ours, theirs], ["encode", "pp64"], 2, seconds)  # type: ignore[list-item]
    assert log == [
        *(("encode", "handglass"), ("encode", "other"), ("pp64", "handglass")),
        *(("encode", "other"), ("encode", "handglass"), ("pp64", "handglass")),
    ]
    assert seconds["encode"] == {"handglass": [1.0, 3.0], "other": [2.0, 9.0]}


def test_a_peer_that_ends_is_named_and_the_others_go_on() -> None:
    ours = Scripted("handglass", ("encode",), [1.0, 2.0], [])
    ending = Scripted("other", ("encode",), [3.0], [])
    ending.reason = "other ended with 1: out of memory"
    seconds: dict = {"encode": {"handglass": [], "other": []}}
    failed = measure([ours, ending], ["encode"], 2, seconds)  # type: ignore[list-item]
    assert failed == {"other": "other ended with 1: out of memory"}
    assert seconds["encode"] == {"handglass": [1.0, 2.0], "other": [3.0]}


def test_a_ratio_is_of_one_round() -> None:
    seconds = {"encode": {"handglass": [1.0, 2.0, 4.0], "other": [2.0, 6.0, 4.0]}}
    measured, missing = ratios(seconds, {"third": "no wheel for it"})
    assert measured["ratio"] == {"min": 1.0, "median": 2.0, "p90": pytest.approx(2.8)}
    assert measured["ours_s"]["median"] == 2.0 and measured["theirs_s"]["median"] == 4.0
    assert missing["ratio"] is None and missing["note"] == "no wheel for it"


def test_an_interrupted_round_does_not_count() -> None:
    seconds: dict = {"encode": {"handglass": [1.0, 2.0], "other": [3.0]}, "pp64": {"handglass": []}}
    (found,) = ratios(seconds, {})
    assert found["ratio"]["median"] == 3.0


def test_a_row_without_samples_is_named() -> None:
    (found,) = ratios({"encode": {"handglass": [1.0], "other": []}}, {})
    assert found["ratio"] is None and "does not run this row" in found["note"]


def test_text() -> None:
    seconds = {"tg64@0": {"handglass": [2.0], "other": [3.0]}}
    engine = {"name": "other", "version": "1", "weights": "int4", "cache": "f16", "threads": 2}
    report = {
        "model": "4.0-2560x32",
        "device": "a machine",
        "date": "2026-01-01",
        "revision": "abc",
        "samples": 1,
        "engines": [{**engine, "wait": "sleeps"}],
        "rows": ratios(seconds, {"third": "no wheel"}, {"tg64@0": {"other": "gcc, spins"}}),
        "memory": {"handglass": 1_100_000_000, "other: gcc, spins": 2_200_000_000},
        "bundle_bytes": 1_000_000_000,
    }
    text = as_text(report)
    assert "| tg64@0 | other | gcc, spins | 1.50 | 1.50 | 1.50 | 2 | 3 |" in text
    assert "not measured: no wheel" in text
    assert "sleeps" in text and "2 threads" in text
    assert "| other: gcc, spins | 2.20 | 2.00 |" in text
    assert "peak over bundle 1.10" in text


def test_every_configuration_that_is_tried_is_a_choice_of_its_engine(tmp_path: Path) -> None:
    for peer in PEERS.values():
        for one in peer.tried:
            assert one.settings(peer) or not one.decoder
            assert "{root}" not in str(one.variables(peer, tmp_path))


def test_peers_read_a_flat_shape_with_what_a_config_leaves_out() -> None:
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 512,
    }
    config = {"model_type": "minicpmv", "vision_config": {"patch_size": 14}}
    plain = shape_of({**config, **text, "version": "4.0"})
    assert plain["head_dim"] == 16 and plain["residual_scale"] == plain["logit_scale"] == 1.0
    assert plain["image_size"] == 448 and plain["patch_size"] == 14
    scaled = shape_of({**config, **text, "scale_depth": 1.4, "dim_model_base": 32})
    assert scaled["residual_scale"] == 0.7 and scaled["logit_scale"] == 0.5
    plain["vision_config"] = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    layer = 64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128
    assert parameters(plain) == 100 * 64 + 4 * layer + 2 * (4 * 64 + 2 * 8 * 16)
    linear = {**text, "head_dim": 32, "linear_num_key_heads": 2}
    nested = shape_of({**config, "text_config": linear, "insert_layer_id": 1})
    assert nested["head_dim"] == 32 and nested["text_config"] == linear
