"""The sources of records, and their order for one kernel."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the rules define the choices")
from some_records import HERE, RECORD, example, timed

from handglass.compiler.records import store
from handglass.compiler.records.journal import append, read
from handglass.compiler.records.record import INSTRUCTIONS, Device
from handglass.compiler.records.store import NAMED, OWN, SHIPPED, open_store, own_file
from handglass.errors import InputError
from handglass.targets import find_target, known_targets

pytestmark = pytest.mark.compiler

V3 = known_targets()[RECORD.target]
GPU = next(target for target in known_targets().values() if target.gpu is not None)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder and the shipped one, both empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(store, "SHIPPED_FOLDER", tmp_path / "shipped")
    return tmp_path


def first(**options: object) -> store.Stored:
    return open_store(V3, HERE, **options).by_task[RECORD.task][0]  # type: ignore[arg-type]


def test_nothing_anywhere_is_no_error() -> None:
    assert list(open_store(V3, HERE)) == []


def test_where_the_user_keeps_his(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_file(V3.name) == folders / "data" / "handglass" / "records" / f"{V3.name}.jsonl"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(folders))
    assert own_file(V3.name) == folders / ".local/share/handglass/records" / f"{V3.name}.jsonl"


def test_named_before_own_before_shipped(folders: Path) -> None:
    newest = {"date": "2026-12-24T00:00:00Z"}
    append(store.shipped_file(V3), timed(1e-5, **newest))
    assert first().source == SHIPPED
    append(own_file(V3.name), timed(1e-4))
    assert first().source == OWN
    append(folders / "a.jsonl", timed(2e-4))
    assert first(named=[folders / "a.jsonl"]).source == NAMED
    assert first(named=[folders / "a.jsonl"], stored=False).source == NAMED
    assert list(open_store(V3, HERE, stored=False)) == []


def test_this_device_before_others_and_then_the_newest() -> None:
    other = replace(HERE, model="Another CPU")
    one_thread = replace(HERE, threads=1)
    days = [f"2026-12-{day:02}T00:00:00Z" for day in range(1, 6)]
    records = [
        timed(1e-3, device=other, date=days[1]),
        timed(1e-3, device=one_thread, date=days[2]),
        timed(1e-3, device=HERE, date=days[0]),
        timed(1e-3, device=replace(other, cores=64), date=days[3]),
    ]
    for record in records:
        append(own_file(V3.name), record)
    found = [s.record for s in open_store(V3, HERE).by_task[RECORD.task]]
    assert found == [records[2], records[1], records[3], records[0]]
    elsewhere = [s.record for s in open_store(V3, None).by_task[RECORD.task]]
    assert elsewhere == [records[3], records[1], records[0], records[2]]


def test_records_for_other_targets_are_left_alone(folders: Path) -> None:
    path = folders / "mixed.jsonl"
    append(path, example(target="arm64"))
    append(path, RECORD)
    found = open_store(V3, HERE, [path])
    assert [s.record for s in found] == [RECORD]
    assert found.refused == []


def test_a_file_that_was_named_must_be_there(folders: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl"):
        open_store(V3, HERE, [folders / "nothing.jsonl"])


def test_ours_and_the_users_may_be_damaged(folders: Path) -> None:
    own_file(V3.name).mkdir(parents=True)
    store.SHIPPED_FOLDER.mkdir()
    store.shipped_file(V3).write_text("torn\n")
    found = open_store(V3, HERE)
    assert list(found) == []
    (own, own_line), (ours, our_line) = found.refused
    assert (own, ours) == (own_file(V3.name), store.shipped_file(V3))
    assert "not a file" in own_line.reason
    assert (our_line.line, "JSON" in our_line.reason) == (1, True)


def test_what_we_ship_can_all_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    targets = {target.records_key: target for target in known_targets().values()}
    for path in store.SHIPPED_FOLDER.glob("*.jsonl"):
        records, refused = read(path)
        key = path.stem.partition(store.OF_KIND)[0]
        assert {record.target for record in records} == {key}
        assert (store.OF_KIND in path.stem or key in targets, refused) == (True, [])


def test_shipped_records_are_for_one_kind_of_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    host = find_target("host")
    record = timed(1e-5, target=host.records_key)
    monkeypatch.setattr(store, "cpu_kind", lambda: "GenuineIntel-6-143")
    append(store.shipped_file(host), record)
    assert [s.source for s in open_store(host, None)] == [SHIPPED]
    assert not list(open_store(host, None, stored=False))
    monkeypatch.setattr(store, "cpu_kind", lambda: "AuthenticAMD-26-2")
    assert not list(open_store(host, None))
    monkeypatch.setattr(store, "cpu_kind", lambda: "")
    assert not list(open_store(host, None)), "an unknown kind is none"


def test_shipped_records_of_another_gpu_are_left_alone() -> None:
    here = Device("A GPU", "vulkan", 1, 1)
    mine = timed(1e-5, target=GPU.records_key, device=here)
    append(store.shipped_file(GPU), mine)
    append(store.shipped_file(GPU), replace(mine, device=replace(here, model="Another GPU")))
    assert [s.record for s in open_store(GPU, here)] == [mine]
    assert not list(open_store(GPU, None))


def test_what_was_counted_comes_after_all_that_was_timed(folders: Path) -> None:
    counted = timed(1e-6, measure=INSTRUCTIONS, date="2026-12-24T00:00:00Z")
    append(folders / "named.jsonl", counted)
    append(own_file(V3.name), counted)
    append(store.shipped_file(V3), timed(1e-3))
    found = open_store(V3, HERE, [folders / "named.jsonl"]).by_task[RECORD.task]
    assert [s.source for s in found] == [SHIPPED, NAMED, OWN]
    append(own_file(V3.name), timed(1e-3))
    assert len(read(own_file(V3.name)).records) == 2, "one of each measure is kept"
