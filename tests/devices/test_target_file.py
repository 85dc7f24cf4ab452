"""A user-defined target: a preset modified by a JSON file, rejected if it is inconsistent."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="asks LLVM what it may use")

from handglass.errors import InputError
from handglass.targets import TARGETS, Target, find_target
from handglass.targets.contradictions import contradictions
from handglass.targets.presets.aarch64 import LEVELS as ARM_LEVELS
from handglass.targets.presets.aarch64 import NO_SVE

pytestmark = pytest.mark.compiler


def own(folder: Path, base: str = "raspberry-pi-5", **fields: Any) -> Target:
    file = folder / "mine.json"
    file.write_text(json.dumps({"base": base, "name": "my-board"} | fields))
    return find_target(str(file))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_preset_contradicts_itself(target: Target) -> None:
    assert list(contradictions(target)) == []


@pytest.mark.parametrize("level", ARM_LEVELS, ids=lambda level: level.cpu)
def test_no_level_of_a_host_contradicts_itself(level: Any) -> None:
    assert list(contradictions(level.target("host", "this machine"))) == []


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    target, base = own(tmp_path, cores=2, memory_limit=2 * 10**9), TARGETS["raspberry-pi-5"]
    assert (target.name, target.cores, target.memory_limit) == ("my-board", 2, 2 * 10**9)
    assert (target.tvm | {"num-cores": 4}, target.features) == (base.tvm, base.features)
    assert "mine.json" in target.description
    assert not target.evidence.entries, "nobody has run it"


def test_a_newer_core_with_its_floor(tmp_path: Path) -> None:
    features = [*TARGETS["android-arm64-i8mm"].features]
    target = own(tmp_path, cpu="neoverse-n2", features=features, mattr=[*NO_SVE])
    assert (target.cpu, target.mattr) == ("neoverse-n2", NO_SVE)


CONTRADICTIONS = [
    ({"cpu": "neoverse-n2", "mattr": ["-sve2"]}, "lets LLVM use 'i8mm'.*features, or '-i8mm'"),
    ({"cpu": "neoverse-n2", "mattr": ["-sve2"]}, "lets LLVM use 'sve'"),
    ({"cpu": "x86-64-v3"}, "LLVM knows no such aarch64 cpu"),
    ({"cpu": "cortex-a67"}, "cpu 'cortex-a67'.*did you mean cortex-a"),
    ({"triple": "riscv64-linux-gnu"}, "no code for this architecture; known: x86_64, aarch64"),
    ({"mattr": ["-dotprod"]}, "forbids 'dotprod', which the floor promises as 'asimddp'"),
    ({"mattr": ["dotprod"]}, "'dotprod': must begin with"),
    ({"mattr": ["+dotproduct"]}, r"'\+dotproduct': LLVM knows no such attribute"),
    ({"features": ["fp", "asimd", "asimdp"]}, "features 'asimdp': .*did you mean .*asimddp"),
    ({"vector_bits": 256}, "vector_bits 256: aarch64 has 128"),
    ({"stub_libraries": ["c", "m"]}, "stub_libraries with triple 'aarch64-linux-gnu'"),
    ({"triple": "aarch64-linux-android24"}, "without stub_libraries"),
    ({"cores": 0}, "cores 0: must be 1 or more"),
    ({"memory_limit": -1}, "memory_limit -1"),
    ({"base": "x86-64-v3", "vector_bits": 512}, "vector_bits 512: needs 'avx512f'"),
    ({"base": "x86-64-v3", "cpu": "x86-64-v4"}, "lets LLVM use 'avx512bw'.*avx512bw to features"),
    ({"base": "x86-64-v3", "mattr": ["+avxvnni"]}, "lets LLVM use 'avxvnni'.*add avx_vnni"),
]


@pytest.mark.parametrize(("fields", "words"), CONTRADICTIONS)
def test_contradictions_are_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"(?s)mine.json: target 'my-board' contra.*{words}"):
        own(tmp_path, **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"core": 4}, "key 'core' is unknown; did you mean cores"),
        ({"linkers": ["rm"]}, "key 'linkers' is unknown"),
        ({"cores": "4"}, "cores must be a whole number, found '4'"),
        ({"cores": True}, "cores must be a whole number, found True"),
        ({"mattr": "-sve"}, "mattr must be a list of texts"),
        ({"cpu": None}, "cpu must be a text, found None"),
        ({"base": "raspbery-pi"}, "base 'raspbery-pi' is no target; did you mean raspberry-pi-"),
        ({"name": "arm64"}, "name 'arm64' must be .* none of the presets"),
        ({"name": "../x"}, "name '../x' must be"),
    ],
)
def test_keys_and_values_are_strict(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        own(tmp_path, **fields)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_file_that_is_no_object(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(InputError, match=r"mine\.json: (not valid JSON|must be one JSON object)"):
        find_target(str(tmp_path / "mine.json"))


def test_a_missing_file_or_key(handglass: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"name": "my-board"}')
    with pytest.raises(InputError, match="'base'"):
        find_target(str(tmp_path / "mine.json"))
    flags = ("-m", tmp_path, "-o", tmp_path / "out", "--target", tmp_path / "no.json")
    result = handglass("compile", *flags)
    assert result.code == 3 and "no.json: No such file" in result.err


def test_examples_of_the_documentation_are_sound(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("docs", "adding.md").read_text("utf-8")
    blocks = [part.split("```")[0] for part in text.split("```json\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "mine.json").write_text(block)
        assert find_target(str(tmp_path / "mine.json")).name in block
