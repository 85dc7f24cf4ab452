"""`handglass quickstart`: what it chooses, keeps, refuses and says; then once for real."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_terminal import FOLDERS, Chat
from chat_terminal import PROGRAM as CHAT_PROGRAM
from cli_model import FakeModel, replace_model
from quickstart_fakes import FakeCompiler, install

from handglass.cli import quickstart_choice
from handglass.runtime.system.platforms import check_platform
from handglass.runtime.system.user_cache import cache_folder

PROGRAM = f"""
import sys
sys.path[:0] = {FOLDERS}
from quickstart_fakes import FakeCompiler, install
install(FakeCompiler(), dict.__setitem__)
{CHAT_PROGRAM.replace('"chat", "-m", "bundle"', '"quickstart"')}
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder("quickstart")


@pytest.fixture
def compiler(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler()
    install(fake, monkeypatch.setitem)
    return fake


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = replace_model(monkeypatch)
    fake.manifest.vision = None
    return fake


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def has_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_free(count: int) -> None:
        free = count + quickstart_choice.SPARE
        monkeypatch.setattr(quickstart_choice, "available_bytes", lambda: free)

    return set_free


def bundles(shelf: Path) -> list[str]:
    return sorted(path.name for path in shelf.iterdir() if path.is_dir())


def test_it_compiles_verifies_and_asks_once(
    handglass: Any, compiler: FakeCompiler, model: FakeModel, checkpoint: Path, shelf: Path
) -> None:
    first = handglass("quickstart", checkpoint, "--no-chat")
    assert (first.code, first.out) == (0, "A red 圆.\n")
    assert "Tiny, 4.0 million parameters" in first.err and "about 15 s to compile" in first.err
    assert "about 5 s to verify (counted, not timed)" in first.err
    assert "verified: every stage meets its floor" in first.err
    assert "> Who are you?" in first.err
    again = handglass("quickstart", checkpoint, "--json", "-p", "Hello").json
    assert (again["kept"], again["text"], again["prompt"]) == (True, "A red 圆.", "Hello")
    assert (len(compiler.compiled), len(compiler.verified)) == (1, 1)
    assert bundles(shelf) == [Path(again["bundle"]).name]
    assert not stat.S_IMODE(shelf.stat().st_mode) & 0o077


def test_the_next_estimate_is_what_it_took_here(
    handglass: Any, compiler: FakeCompiler, model: FakeModel, checkpoint: Path, shelf: Path
) -> None:
    handglass("quickstart", checkpoint, "--no-chat")
    (file,) = shelf.glob("tiny-*.json")
    note = json.loads(file.read_text())
    file.write_text(json.dumps({**note, "seconds": 40.0, "verify_seconds": 70.0}))
    told = handglass("quickstart", checkpoint, "--no-chat", "-c", 64).err
    assert "about 40 s to compile (as long as the last one here), about 70 s to verify (as" in told
    del note["verify_seconds"]
    file.write_text(json.dumps(note))
    told = handglass("quickstart", checkpoint, "--no-chat", "-c", 32, "--no-verify").err
    assert "to compile" in told and "to verify" not in told, "nothing is verified"


def test_what_is_asked_for_decides_what_is_found(
    handglass: Any, compiler: FakeCompiler, model: FakeModel, checkpoint: Path
) -> None:
    ask = ("quickstart", checkpoint, "--no-chat", "--keep", 9)
    for more in ([], ["--context", 64], ["--quantization", "w4a8"], ["--fresh"]):
        assert handglass(*ask, *more).code == 0
    assert len(compiler.compiled) == 4
    os.utime(checkpoint / "config.json", ns=(1, 1))
    assert handglass(*ask).code == 0
    assert len(compiler.compiled) == 5, "the checkpoint has changed"


def test_a_changed_bundle_is_compiled_again(
    handglass: Any, compiler: FakeCompiler, model: FakeModel, checkpoint: Path, shelf: Path
) -> None:
    ask = ("quickstart", checkpoint, "--no-chat")
    handglass(*ask)
    (shelf / bundles(shelf)[0] / "lib.so").write_bytes(b"evil")
    assert "compiling it again" in handglass(*ask).err
    manifest = shelf / bundles(shelf)[0] / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    handglass(*ask)
    assert len(compiler.compiled) == 3


@pytest.mark.parametrize(
    ("parameters", "free", "expected"),
    [
        (10**8, 10**9, ("w8a8", None, None)),
        (10**8, 8 * 10**7, ("w4a8", None, None)),
        (10**9, 10**10, ("w4a8", None, None)),
        (10**9, 600_700_000, ("w4a8", None, "int8")),
        (10**9, 600_200_000, ("w4a8", 1024, "int8")),
    ],
)
def test_the_first_choice_that_fits(
    compiler: FakeCompiler, has_memory: Any, parameters: int, free: int, expected: Any
) -> None:
    compiler.parameters = parameters
    has_memory(free)
    plan = lambda **options: compiler.plan_model(Path(), **options)  # noqa: E731
    chosen = quickstart_choice.choose(plan, None, None).options
    assert tuple(chosen[name] for name in ("quantization", "context", "kv_cache")) == expected


def test_what_does_not_fit_is_refused(
    handglass: Any, compiler: FakeCompiler, checkpoint: Path, has_memory: Any
) -> None:
    has_memory(10**6)
    refused = handglass("quickstart", checkpoint)
    assert refused.code == 4
    assert "its smallest bundle takes 3 MB, but only 1 MB are free" in refused.err
    has_memory(10**9)
    compiler.fits_disk = False
    assert "only 7 B are free; free some disk space" in handglass("quickstart", checkpoint).err
    assert not compiler.compiled


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("TVM")])
def test_an_interrupted_compilation_leaves_nothing(
    handglass: Any, compiler: FakeCompiler, checkpoint: Path, shelf: Path, failure: BaseException
) -> None:
    compiler.fails = failure
    assert handglass("quickstart", checkpoint).code in (70, 130)
    assert not list(shelf.iterdir())


def test_what_a_killed_compilation_left_is_removed(
    handglass: Any, compiler: FakeCompiler, model: FakeModel, checkpoint: Path, shelf: Path
) -> None:
    from handglass.runtime.bundle.replacing import partial_folder

    left = partial_folder(shelf / "other-0123456789ab")
    left = left.with_name(left.name.replace(f".{os.getpid()}", ".999999999"))
    left.mkdir(parents=True)
    shelf.chmod(0o700)
    handglass("quickstart", checkpoint, "--no-chat")
    assert not left.exists() and len(bundles(shelf)) == 1


def test_a_fault_removes_the_bundle(
    handglass: Any, compiler: FakeCompiler, checkpoint: Path, shelf: Path
) -> None:
    compiler.is_right = False
    refused = handglass("quickstart", checkpoint)
    assert refused.code == 5
    assert "FAULT" in refused.err and "first stage at fault: logits" in refused.err
    assert not list(shelf.iterdir())


def test_old_bundles_are_removed_listed_and_cleaned(
    handglass: Any, compiler: FakeCompiler, model: FakeModel, checkpoint: Path, shelf: Path
) -> None:
    other = checkpoint.with_name("other")
    shutil.copytree(checkpoint, other)
    handglass("quickstart", checkpoint, "--no-chat")
    kept = handglass("quickstart", other, "--no-chat", "--keep", 1)
    assert f"removed: the bundle of {checkpoint}, 20 B (--keep 1)" in kept.err
    assert [name.startswith("other-") for name in bundles(shelf)] == [True]
    listed = handglass("quickstart", "--list")
    assert "1 bundle kept, 20 B" in listed.out and str(other) in listed.out
    assert handglass("quickstart", "--clean", "--json").json["removed"] is True
    assert not list(shelf.iterdir())


def test_a_shelf_that_others_can_write_is_refused(
    handglass: Any, compiler: FakeCompiler, checkpoint: Path, shelf: Path
) -> None:
    shelf.mkdir(parents=True)
    shelf.chmod(0o777)
    refused = handglass("quickstart", checkpoint)
    assert refused.code == 4 and "other users can write it" in refused.err


def test_what_is_no_checkpoint_is_refused(
    handglass: Any, compiler: FakeCompiler, checkpoint: Path, tmp_path: Path
) -> None:
    missing = handglass("quickstart", tmp_path / "nothing")
    assert missing.code == 3 and "no such checkpoint" in missing.err
    compiler.compile_model(checkpoint, tmp_path / "bundle", None)
    assert "is a bundle already" in handglass("quickstart", tmp_path / "bundle").err
    assert handglass("quickstart", checkpoint, "--serve", "--json").code == 2
    assert not compiler.verified


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_are_refused_in_words(
    handglass: Any, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    refused = handglass("quickstart")
    assert refused.code == 4
    assert (
        "can neither compile nor run a bundle" in refused.err and "Linux container" in refused.err
    )
    failed = json.loads(handglass("run", "-m", "x", "-p", "x", "--json").out)
    assert failed["error"]["kind"] == "device"
    if system == "darwin":
        check_platform("inspect")
    assert handglass("--help").code == 0


@pytest.fixture
def terminal(shelf: Path, checkpoint: Path) -> Iterator[Chat]:
    chat = Chat(str(checkpoint), program=PROGRAM)
    yield chat
    chat.close()


def test_the_first_answer_is_part_of_the_chat(terminal: Chat) -> None:
    text = terminal.enter("/stats", "answers")
    assert "1 question, 1 picture" in text
    assert "red square." in terminal.enter("And now?", "decode")
    assert "2 questions" in terminal.enter("/stats", "answers")


@pytest.mark.compiler
@pytest.mark.large
def test_everything_real(handglass: Any, shelf: Path, text_checkpoint: Path) -> None:
    first = handglass("quickstart", text_checkpoint, "--no-chat", "-n", 4)
    assert first.code == 0, first.err
    assert "verified: " in first.err
    again = handglass("quickstart", text_checkpoint, "--json", "-n", 4)
    # The family samples by default, so it may be another answer, and may end early.
    assert again.json["kept"] is True and len(again.json["tokens"]) <= 4
