"""One line of a journal: what is read back, and all that is refused."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the rules say what may be chosen")
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
    """Sets one place, such as "lengths.0.tuned.min"."""
    *way, last = path.split(".")

    def change(data: Any) -> None:
        for step in way:
            data = data[int(step) if isinstance(data, list) else step]
        data[int(last) if isinstance(data, list) else last] = value

    return change


FAULTS: list[tuple[str, Any, str]] = [
    ("format", "tvm-record", "not a record of handglass"),
    ("version", 2, "record version 2, this handglass reads 1"),
    ("version", True, "record version True"),
    ("version", "1", "record version '1'"),
    ("trace", [["SampleCategorical"]], "key 'trace' is unknown"),
    ("pragma_import_llvm", "define void @f()", "key 'pragma_import_llvm' is unknown"),
    ("lengths.0.tuned.trace", [], "key 'lengths.0..tuned.trace' is unknown"),
    ("device.hostname", "secret", "key 'device.hostname' is unknown"),
    ("target", "../../etc/passwd", "target is not"),
    ("target", "", "target is not"),
    ("target", 3, "target must be str"),
    ("task", "AB" * 32, "64 hexadecimal"),
    ("task", "ab" * 31, "64 hexadecimal"),
    ("about", "two\nlines", "printable"),
    ("about", "\x1b[2J", "printable"),
    ("about", "\u202egnp", "printable"),
    ("about", "a" * 5000, "too long"),
    ("rule", "pragma_import_llvm", "rule is not"),
    ("rule", "cpu-dot\n", "rule is not"),
    ("choices", {}, "must name something"),
    ("choices", [["panels", 2]], "choices must be an object"),
    ("choices", {"panels": 2.0}, "choices.panels must be int"),
    ("choices", {"panels": True}, "choices.panels must be int"),
    ("choices", {"panels": "2"}, "choices.panels must be int"),
    ("choices", {"panels": -2}, "small number"),
    ("choices", {"panels": 10**30}, "small number"),
    ("choices", {"pragma_import_llvm": "define"}, "choices.pragma_import_llvm must be int"),
    ("choices", {"a b": 2}, "name of a choice"),
    ("choices", {f"c{i}": 1 for i in range(50)}, "must name something"),
    ("lengths", [], "1 to 16"),
    ("lengths", {}, "lengths must be a list"),
    ("lengths.0.lengths", {"s": -1}, "negative"),
    ("lengths.0.lengths", {"s": 512}, "twice"),
    ("lengths.0.lengths", {"s; drop": 1}, "name of a length"),
    ("lengths.0.tuned.min", 0.0, "positive"),
    ("lengths.0.tuned.min", -1e-4, "positive"),
    ("lengths.0.tuned.min", 1.0, "min <= median"),
    ("lengths.0.tuned.p90", 1e-4, "median <= p90"),
    ("lengths.0.tuned.p90", 1e300, "positive"),
    ("lengths.0.tuned.samples", 0, "of samples"),
    ("lengths.0.tuned.samples", 1.5, "samples must be int"),
    ("lengths.0.tuned", {"min": 1.0, "median": 1.0, "p90": 1.0, "samples": 3}, "slower than.*64"),
    ("lengths.0.default", None, "default must be an object"),
    ("share", 1.5, "share must"),
    ("share", None, "share must be float"),
    ("share", 10**400, "share must be float"),
    ("limit_fraction", 0.0, "limit_fraction 0 is not above 0: it is the least possible time"),
    ("limit_fraction", -0.5, "limit_fraction -0.5 is not above 0"),
    ("limit_fraction", 3.18, "limit_fraction 3.18 is above 2: no kernel is so much faster.*null"),
    ("limit_fraction", "fast", "limit_fraction must be float"),
    ("device.model", "\x07", "printable"),
    ("device.model", "M" * 300, "too long"),
    ("device.architecture", "x86 64", "architecture"),
    ("device.threads", 0, "threads must be positive"),
    ("device.cores", 1 << 40, "threads must be positive"),
    ("date", "2026-11-25", "date must look like"),
    ("date", "2026-13-25T10:00:00Z", "date must look like"),
    ("date", "yesterday", "date must look like"),
    ("versions.tvm", "$(reboot)", "version numbers"),
    ("versions", {"tvm": "1"}, "is missing"),
    ("verified.max_error", -1.0, "max_error"),
    ("verified", None, "verified must be an object"),
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
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a record"),
        ("null", "not a record"),
        ("[" * 8000, "not valid JSON"),
        ('{"a":' * 2500 + "1" + "}" * 2500, "not valid JSON|not a record"),
        ("9" * 8000, "not valid JSON|not a record"),
        ('{"format": "handglass-record", "format": "handglass-record"}', "comes twice"),
        (RECORD.text().replace("0.8", "NaN"), "NaN is not a number"),
        (RECORD.text().replace("0.8", "-Infinity"), "-Infinity is not a number"),
        (RECORD.text().replace("0.8", "1e999"), "limit_fraction inf is above 2"),
        (RECORD.text() + "x", "not valid JSON"),
        (RECORD.text().replace("fused", "\\ud800"), "printable"),
    ],
)
def test_what_is_no_record(text: str, words: str) -> None:
    with pytest.raises(HandglassError, match=words):
        Record.parse(text)


def test_a_changed_line_is_told() -> None:
    with pytest.raises(MismatchError, match="damaged or changed"):
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
    """Unless it says the same: a space more, a number spelt otherwise."""
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
        ({"rule": "pragma-import-llvm"}, "there is no rule 'pragma-import-llvm'"),
        ({"choices": {"pragma_import_llvm": 1}}, "no choice 'pragma_import_llvm', but panels"),
        ({"choices": {"panels": 2, "unroll": 4}}, "no choice 'unroll'"),
        ({"choices": {"panels": 3}}, "offers 1, 2, 4, 8 for 'panels', not 3"),
        ({"rule": "cpu-rows"}, "cpu-rows has no choice 'panels', but none"),
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
