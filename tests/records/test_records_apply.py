"""Applying records: the schedule that a record gives, and records that do not fit."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="schedules functions")
import tvm
from lowered_demo import V3, demo_functions, demo_module
from some_records import HERE, example
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs

from handglass.compiler.build import generate
from handglass.compiler.lowering.phases import lower
from handglass.compiler.lowering.task_hash import task_hash
from handglass.compiler.lowering.workload import Part
from handglass.compiler.records.apply import RecordBook, reason_of
from handglass.compiler.records.coverage import Coverage, Covered, coverage
from handglass.compiler.records.record import Record
from handglass.compiler.records.store import OWN, SHIPPED, Store, Stored
from handglass.compiler.records.summary import summarize
from handglass.errors import DeviceError
from handglass.schedules import Rule, apply_rules
from handglass.schedules.choices import Open, Written
from handglass.schedules.rule import schedule_function

pytestmark = pytest.mark.compiler

TVM = tvm.target.Target(V3.tvm)


def book(*records: Record) -> RecordBook:
    store = Store(V3.records_key)
    for record in records:
        store.by_task.setdefault(record.task, []).append(Stored(record, OWN))
    return RecordBook(store, TVM)


def kernel(name: str) -> tuple[tirx.PrimFunc, Rule, Mapping[str, tuple[int, ...]], Any]:
    """A kernel of the demo model, its rule, the offered choices and the defaults."""
    func = demo_functions()[name]
    choices = Open()
    found = schedule_function(func, V3.rules, TVM, choices)
    assert found is not None
    return func, found[1], choices.options, choices.defaults


@pytest.fixture(scope="module")
def func() -> tirx.PrimFunc:
    """One row times a matrix of four bits; by default four panels are a task."""
    return demo_functions()["fused_matmul13_multiply_add"]


@pytest.fixture(scope="module")
def tuned(func: tirx.PrimFunc) -> Record:
    return example(task=task_hash(func, "cpu-dot"), rule="cpu-dot", choices={"panels": 1})


def scheduled(func: tirx.PrimFunc, replays: RecordBook) -> tuple[tirx.PrimFunc, Any]:
    mod, (row,) = apply_rules(tvm.IRModule({"kernel": func}), V3.rules, TVM, replays)
    return mod["kernel"], row


@pytest.mark.parametrize("name", ["fused_matmul13_multiply_add", "matmul9", "causal_attention1"])
def test_a_record_gives_what_the_rule_makes_of_its_choices(name: str) -> None:
    func, rule, offered, default = kernel(name)
    choices = {key: options[0] for key, options in offered.items()}
    assert choices != default
    record = example(task=task_hash(func, rule.name), rule=rule.name, choices=choices)
    made, row = scheduled(func, book(record))
    by_hand = Schedule(renew_defs(func))
    assert rule(by_hand, TVM, Written(choices))
    tvm.ir.assert_structural_equal(
        made.without_attr("tirx.is_scheduled"),
        by_hand.mod["main"].without_attr("global_symbol"),
        map_free_vars=True,
    )
    assert (row.rule, row.choices) == (rule.name, choices)
    plain, _ = scheduled(func, book())
    with pytest.raises(ValueError, match="."):
        tvm.ir.assert_structural_equal(made, plain, map_free_vars=True)


def test_the_row_says_who_chose(func: tirx.PrimFunc, tuned: Record) -> None:
    assert scheduled(func, book(tuned))[1].source == tuned.id
    plain = scheduled(func, book())[1]
    assert (plain.source, plain.choices["panels"]) == ("", 4)


def test_a_choice_newer_than_the_record_has_its_default(func: tirx.PrimFunc, tuned: Record) -> None:
    _, _, _, defaults = kernel("fused_matmul13_multiply_add")
    assert tuned.choices == {"panels": 1} and len(defaults) > 1
    whole = replace(tuned, choices={**defaults, "panels": 1})
    made, complete = scheduled(func, book(tuned))[0], scheduled(func, book(whole))[0]
    tvm.ir.assert_structural_equal(made, complete, map_free_vars=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"choices": {"panels": 3}}, "'panels': 3"),
        ({"choices": {"panels": 1, "columns": 8}}, "'columns'"),
        ({"choices": {"columns": 8}}, "'columns'"),
        ({"choices": {"pragma_import_llvm": 1}}, "'pragma_import_llvm'"),
        ({"rule": "cpu-attention"}, "'cpu-attention'"),
        ({"task": "00" * 32}, None),
    ],
)
def test_what_does_not_fit_is_passed_over(
    func: tirx.PrimFunc, tuned: Record, changes: dict[str, Any], reason: str | None
) -> None:
    record = replace(tuned, **changes)
    records = book(record, replace(tuned, task="ff" * 32))
    made, row = scheduled(func, records)
    plain, _ = scheduled(func, book())
    tvm.ir.assert_structural_equal(made, plain, map_free_vars=True)
    assert row.source == ""
    assert records.used == {}
    assert [s.record for s in records.skipped] == ([record] if reason else [])
    if reason:
        assert reason in records.skipped[0].reason


def test_a_record_of_a_kernel_that_has_changed_is_not_used(tuned: Record) -> None:
    records = book(tuned)
    wider = demo_functions()["fused_matmul15_multiply_add"]
    assert scheduled(wider, records)[1].source == ""
    assert (records.used, records.skipped) == ({}, [])


def test_the_next_record_is_tried(func: tirx.PrimFunc, tuned: Record) -> None:
    records = book(replace(tuned, choices={"panels": 3}), tuned)
    assert scheduled(func, records)[1].source == tuned.id
    assert list(records.used) == [tuned.id]
    assert len(records.skipped) == 1


def test_no_end_of_records_is_tried(func: tirx.PrimFunc, tuned: Record) -> None:
    wrong = [replace(tuned, choices={"panels": 100 + i}) for i in range(50)]
    records = book(*wrong, tuned)
    assert scheduled(func, records)[1].source == ""
    assert [s.record for s in records.skipped] == wrong[:8]


def test_a_schedule_that_tvm_refuses_is_passed_over(func: tirx.PrimFunc, tuned: Record) -> None:
    def broken(sch: Schedule, target: tvm.target.Target, choices: Any) -> bool:
        if choices.pick(sch, "panels", (1, 2, 4, 8), 8) == 1:
            sch.get_sblock("no such block")
        return True

    rules = [Rule("cpu-dot", broken, frozenset({"dot4"}))]
    records = book(tuned)
    _, (row,) = apply_rules(tvm.IRModule({"kernel": func}), rules, TVM, records)
    assert row.source == ""
    assert records.skipped[0].record is tuned
    assert 0 < len(records.skipped[0].reason) <= 300


def test_reason_of_an_error_without_words() -> None:
    assert reason_of(ValueError()) == "ValueError"
    assert reason_of(ValueError("a\n  b \n\n")) == "b"


PARTS = (
    Part("encode_image", 1, {"n": 64, "strip": 64 * 14}, ()),
    Part("prefill", 1, {"s": 80, "pos": 0}, ()),
    Part("decode", 64, {"pos": 112}, ()),
)


@pytest.mark.slow
def test_coverage_of_the_demo_model(tuned: Record) -> None:
    records = book(tuned)
    lowered = lower(demo_module(), V3, replays=records)
    (row,) = [row for row in lowered.kernels if row.record]
    assert (row.record, row.choices) == (tuned.id, {"panels": 1})
    found = coverage(lowered, PARTS, V3, records.used, HERE)
    assert sum(kernel.share for kernel in found.kernels) == pytest.approx(1)
    assert all(kernel.share > 0 for kernel in found.kernels)
    assert [k.record for k in found.tuned] == [tuned]
    assert 0.01 < found.share < 0.3
    assert found.share + sum(k.share for k in found.default) == pytest.approx(1)
    heaviest = found.kernels[0].function  # 64 times all of the MLP's first matrix
    assert heaviest.startswith("matmul")
    text = summarize(found, records)
    assert "shipped" not in text["line"]
    records.sources[tuned.id] = SHIPPED
    assert (
        summarize(found, records)["line"]
        == f"{text['line']}; 1 from records shipped with handglass"
    )
    assert text["covered"] == found.share
    assert [k["record"] for k in text["kernels"] if k["record"]] == [tuned.id]


def test_the_line_that_is_always_told(tuned: Record) -> None:
    def covered(name: str, share: float, record: Record | None) -> Covered:
        return Covered(name, "cpu-dot", share, {}, record)

    away = replace(tuned, device=replace(HERE, model="Pi"))
    kernels = (covered("a", 0.5, tuned), covered("b", 0.33, away), covered("c", 0.17, None))
    assert Coverage("x86-64-v3", kernels, HERE).line() == (
        "records: 2 of 3 kernels, about 83 % of an answer's time on x86-64-v3 "
        "(1 measured on another machine: Pi); default schedules: 1 kernels, 17 %"
    )
    assert Coverage("arm64", kernels[2:], HERE).line() == (
        "records: none used on arm64; default schedules: 1 kernels, 100 %"
    )


@pytest.mark.slow
@pytest.mark.large
def test_what_tvm_cannot_build_with_records_is_built_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuned: Record
) -> None:
    """As if the code generator rejected the schedule of a record."""
    records = book(tuned)
    built: list[list[str | None]] = []
    lowered = lower(demo_module(), V3, replays=records)

    def build(mod: tvm.IRModule, target: Any, path: Path) -> None:
        built.append(list(records.used))
        assert sys.exc_info()[1] is None, "a signal that became an error could not be raised again"
        if records.used:
            raise RuntimeError("LLVM: cannot select")

    monkeypatch.setattr("handglass.compiler.build.build_library", build)
    again = generate(demo_module(), lowered, V3, tmp_path / "lib.so", records)
    assert built == [[tuned.id], []]
    assert not any(row.record for row in again.kernels)
    assert records.skipped[0].reason.endswith(": LLVM: cannot select")

    def no_linker(mod: tvm.IRModule, target: Any, path: Path) -> None:
        raise DeviceError("no linker")

    monkeypatch.setattr("handglass.compiler.build.build_library", no_linker)
    with pytest.raises(DeviceError, match="no linker"):
        generate(demo_module(), lowered, V3, tmp_path / "lib.so", book(tuned))
