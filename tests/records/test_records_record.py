"""One line of a journal: reading back what was written, and refusing everything else."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the rules define the choices")
from some_records import RECORD, as_data, canonical, example, forged, timed

from handglass.compiler.records.allowed import check_allowed
from handglass.compiler.records.record import Measured, Record, Times, Verified
from handglass.errors import HandglassError, InputError, MismatchError
from handglass.schedules import CPU_RULES

pytestmark = pytest.mark.compiler


def test_what_is_written_is_read() -> None:
    text = RECORD.text()
    assert "\n" not in text and len(text) < 2000
    assert Record.parse(text) == RECORD
    assert json.loads(text)["id"] == RECORD.id
    assert canonical(json.loads(text)) == text


def test_a_reader_that_does_not_know_us_finds_the_same_id() -> None:
    assert json.loads(forged(as_data()))["id"] == RECORD.id


def test_whole_numbers_of_seconds_are_numbers() -> None:
    record = timed(1, share=1, verified=Verified(None, 0))
    assert Record.parse(record.text()).text() == record.text()


def test_numbers_of_numpy_are_no_others() -> None:
    second = np.float64(1e-4)
    times = Times(second, second, second, 3)
    record = example(lengths=(Measured({}, times, times),))
    assert Record.parse(record.text()) == record


def test_gain() -> None:
    assert RECORD.gain == pytest.approx(2)
    assert timed(3e-3).tuned_seconds == 3e-3


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    data = as_data()
    change(data)
    return forged(data)


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change that sets one value by its path, such as "lengths.0.tuned.min"."""
    *steps, last = path.split(".")

    def change(data: Any) -> None:
        for step in steps:
            data = data[int(step) if isinstance(data, list) else step]
        data[int(last) if isinstance(data, list) else last] = value

    return change


FAULTS: list[tuple[str, Any, str]] = [
    ("format", "tvm-record", "handglass-record"),
    ("version", 2, "version 2"),
    ("version", True, "version True"),
    ("version", "1", "version '1'"),
    ("trace", [["SampleCategorical"]], "'trace'"),
    ("pragma_import_llvm", "define void @f()", "'pragma_import_llvm'"),
    ("lengths.0.tuned.trace", [], r"'lengths\[0\]\.tuned\.trace'"),
    ("device.hostname", "secret", r"'device\.hostname'"),
    ("target", "../../etc/passwd", "target "),
    ("target", "", "target "),
    ("target", 3, "target .*str"),
    ("task", "AB" * 32, "task .*64"),
    ("task", "ab" * 31, "task .*64"),
    ("about", "two\nlines", "about .*printable"),
    ("about", "\x1b[2J", "about .*printable"),
    ("about", "\u202egnp", "about .*printable"),
    ("about", "a" * 5000, "about .*long"),
    ("rule", "pragma_import_llvm", "rule "),
    ("rule", "cpu-dot\n", "rule "),
    ("choices", {}, "choices .*40"),
    ("choices", [["panels", 2]], "choices .*object"),
    ("choices", {"panels": 2.0}, r"choices\.panels .*int"),
    ("choices", {"panels": True}, r"choices\.panels .*int"),
    ("choices", {"panels": "2"}, r"choices\.panels .*int"),
    ("choices", {"panels": -2}, "choices .*65536"),
    ("choices", {"panels": 10**30}, "choices .*65536"),
    ("choices", {"pragma_import_llvm": "define"}, r"choices\.pragma_import_llvm .*int"),
    ("choices", {"a b": 2}, "choice name"),
    ("choices", {f"c{i}": 1 for i in range(50)}, "choices .*40"),
    ("lengths", [], "lengths .*16"),
    ("lengths", {}, "lengths .*list"),
    ("lengths.0.lengths", {"s": -1}, "negative"),
    ("lengths.0.lengths", {"s": 512}, "duplicate"),
    ("lengths.0.lengths", {"s; drop": 1}, "length name"),
    ("lengths.0.tuned.min", 0.0, "0 < min"),
    ("lengths.0.tuned.min", -1e-4, "0 < min"),
    ("lengths.0.tuned.min", 1.0, "min <= median"),
    ("lengths.0.tuned.p90", 1e-4, "median <= p90"),
    ("lengths.0.tuned.p90", 1e300, "3600"),
    ("lengths.0.tuned.samples", 0, "samples >= 1"),
    ("lengths.0.tuned.samples", 1.5, "samples .*int"),
    ("lengths.0.tuned", {"min": 1.0, "median": 1.0, "p90": 1.0, "samples": 3}, "slower .*64"),
    ("lengths.0.default", None, "default .*object"),
    ("share", 1.5, "share "),
    ("share", None, "share .*float"),
    ("share", 10**400, "share .*float"),
    ("limit_fraction", 0.0, r"limit_fraction 0\b"),
    ("limit_fraction", -0.5, r"limit_fraction -0\.5"),
    ("limit_fraction", 3.18, r"limit_fraction 3\.18 .*\b2\b.*null"),
    ("limit_fraction", "fast", "limit_fraction .*float"),
    ("device.model", "\x07", r"device\.model .*printable"),
    ("device.model", "M" * 300, r"device\.model .*long"),
    ("device.architecture", "x86 64", r"device\.architecture"),
    ("device.threads", 0, "threads .*4096"),
    ("device.cores", 1 << 40, "cores .*4096"),
    ("date", "2026-11-25", "date "),
    ("date", "2026-13-25T10:00:00Z", "date "),
    ("date", "yesterday", "date "),
    ("versions.tvm", "$(reboot)", "versions "),
    ("versions", {"tvm": "1"}, "versions"),
    ("verified.max_error", -1.0, "max_error"),
    ("verified", None, "verified .*object"),
]


@pytest.mark.parametrize(("path", "value", "words"), FAULTS)
def test_refused_in_words(path: str, value: Any, words: str) -> None:
    with pytest.raises(HandglassError, match=words) as refusal:
        Record.parse(changed(put(path, value)))
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("key", sorted(as_data()))
def test_every_key_is_needed(key: str) -> None:
    data = as_data()
    del data[key]
    text = forged(data) if key != "id" else json.dumps(data)
    with pytest.raises(HandglassError):
        Record.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "not a record"),
        ("null", "not a record"),
        ("[" * 8000, "JSON"),
        ('{"a":' * 2500 + "1" + "}" * 2500, "JSON|not a record"),
        ("9" * 8000, "JSON|not a record"),
        ('{"format": "handglass-record", "format": "handglass-record"}', "duplicate"),
        (RECORD.text().replace("0.8", "NaN"), "NaN"),
        (RECORD.text().replace("0.8", "-Infinity"), "-Infinity"),
        (RECORD.text().replace("0.8", "1e999"), "limit_fraction inf"),
        (RECORD.text() + "x", "JSON"),
        (RECORD.text().replace("fused", "\\ud800"), "printable"),
    ],
)
def test_what_is_no_record(text: str, words: str) -> None:
    with pytest.raises(HandglassError, match=words):
        Record.parse(text)


def test_a_changed_line_is_told() -> None:
    with pytest.raises(MismatchError, match="hash"):
        Record.parse(RECORD.text().replace('"panels":2', '"panels":4'))


def test_what_would_be_refused_is_not_written() -> None:
    nan = Times(1e-4, float("nan"), 2e-4, 3)
    good = RECORD.lengths[0].default
    for wrong in (
        example(lengths=(Measured({}, good, nan),)),
        example(share=float("nan")),
        example(choices={"panels": "2"}),
        timed(float("inf")),
    ):
        with pytest.raises(InputError):
            wrong.text()


def test_a_random_change_is_never_taken_for_a_record() -> None:
    """Unless it has the same meaning: another space, another spelling of a number."""
    rng = random.Random(4)
    text = RECORD.text()
    for _ in range(4000):
        broken = mutated(text, rng)
        try:
            found = Record.parse(broken)
        except HandglassError:
            continue
        assert found == RECORD


def mutated(text: str, rng: random.Random) -> str:
    at, other = rng.randrange(len(text)), rng.randrange(len(text))
    kind = rng.randrange(5)
    if kind == 0:
        return text[:at] + rng.choice('{}[]":,0123456789.-eabc \\\x00\ufffd') + text[at + 1 :]
    if kind == 1:
        return text[:at]
    if kind == 2:
        return text[:at] + text[at + rng.randrange(1, 9) :]
    if kind == 3:
        return text[:at] + text[other : other + rng.randrange(1, 40)] + text[at:]
    return text[:at] + chr(ord(text[at]) ^ (1 << rng.randrange(7))) + text[at + 1 :]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "pragma-import-llvm"}, "rule 'pragma-import-llvm'"),
        ({"choices": {"pragma_import_llvm": 1}}, "'pragma_import_llvm'.*panels"),
        ({"choices": {"panels": 2, "chains": 4}}, "'chains'"),
        ({"choices": {"panels": 3}}, r"1, 2, 4, 8.*'panels'.*\b3\b"),
        ({"rule": "cpu-rows"}, "cpu-rows .*'panels'.*unroll, chains"),
    ],
)
def test_only_what_rules_offer_is_allowed(changes: dict[str, Any], words: str) -> None:
    record = Record.parse(example(**changes).text())
    with pytest.raises(InputError, match=words):
        check_allowed(record)


def test_every_offer_is_allowed() -> None:
    for rule in CPU_RULES:
        for name, values in rule.offers.items():
            assert list(values) == sorted(set(values))
            for value in values:
                check_allowed(example(rule=rule.name, choices={name: value}))
