"""A journal of records: a fault affects only its line, and the better record of a task stays."""

from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the rules define the choices")
from dataclasses import replace

from some_records import HERE, RECORD, as_data, example, forged, timed

from handglass.compiler.records.journal import append, read
from handglass.compiler.records.lines import MAX_LINE
from handglass.errors import InputError

pytestmark = pytest.mark.compiler


def test_what_is_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    other = example(task="cd" * 32)
    append(path, RECORD)
    append(path, other)
    records, refused = read(path)
    assert (records, refused) == ([RECORD, other], [])


def test_every_fault_costs_its_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    evil = [
        {**as_data(), "choices": {"pragma_import_llvm": 1}},
        {**as_data(), "pragma_import_llvm": "define void @f() { ret void }"},
        {**as_data(), "rule": "pragma_import_llvm"},
        {**as_data(), "trace": [["Annotate", "pragma_import_llvm"]]},
        {**as_data(), "choices": {"panels": 3}},
        {**as_data(), "version": 2},
    ]
    lines: list[bytes] = [
        RECORD.text().encode(),
        RECORD.text().encode()[:200],
        b"\xff" * 30,
        b" " * (2 * MAX_LINE) + RECORD.text().encode(),
        RECORD.text().replace('"panels":2', '"panels":4').encode(),
        *(forged(data).encode() for data in evil),
        example(task="cd" * 32).text().encode(),
        RECORD.text().encode()[:-1],
    ]
    path.write_bytes(b"\n".join(lines))
    records, refused = read(path)
    assert records == [RECORD, example(task="cd" * 32)]
    assert [line.line for line in refused] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    words = [
        *("JSON", "UTF-8", str(MAX_LINE), "hash"),
        *("choice 'pragma_import_llvm'", "key 'pragma_import_llvm'"),
        *("rule ", "'trace'", "not 3", "version 2", "JSON"),
    ]
    for line, word in zip(refused, words, strict=True):
        assert word in line.reason


def test_what_would_be_refused_is_not_added(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for wrong in (example(choices={"pragma_import_llvm": 1}), example(share=2.0)):
        with pytest.raises(InputError):
            append(path, wrong)
    assert not path.exists()


def test_of_one_task_the_faster_stays_and_of_equals_the_later(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    slow, fast = timed(3e-3), timed(1e-3)
    slower, as_fast = timed(2e-3), timed(1e-3, date="2026-11-26T10:00:00Z")
    for record in (slow, fast, slower):
        append(path, record)
    assert read(path).records == [fast]
    append(path, as_fast)
    assert read(path).records == [as_fast]


def test_what_cannot_be_compared_is_replaced_by_the_later(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for record in (timed(1e-3), RECORD):
        append(path, record)
    assert read(path).records == [RECORD]


def test_each_device_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    one = [timed(1e-3), timed(2e-3, device=replace(HERE, threads=1))]
    other = timed(9e-3, device=replace(HERE, model="Another CPU"))
    for record in (*one, other):
        append(path, record)
    assert read(path).records == [*one, other]
