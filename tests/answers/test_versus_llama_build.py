"""The builds of llama.cpp: the first one has all libraries, the others only the kernels."""

import shutil
from pathlib import Path

import pytest
import versus_llama_build as llama_build
from versus_peers import Configuration, Peer, PeerError, prepare


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would be called, with an unpacked archive and every compiler but clang."""
    found: list[tuple[str, ...]] = []

    def call(log: Path, path: str, *command: str) -> None:
        found.append(command)
        for place, word in enumerate(command[:-1]):
            if word in ("-B", "--build"):
                (Path(command[place + 1]) / "bin").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(llama_build, "call", call)
    monkeypatch.setattr(shutil, "which", lambda name: None if "clang" in name else f"/bin/{name}")
    (tmp_path / llama_build.FOLDER / "source").mkdir(parents=True)
    return found


def test_later_builds_compile_the_kernels_only(
    commands: list[tuple[str, ...]], tmp_path: Path
) -> None:
    python = tmp_path / "bin" / "python"
    for process in ("gcc, spins", "gcc, sleeps", "gcc without AMX, spins"):
        llama_build.build_llama(python, tmp_path, process)
    builds = [command for command in commands if "--build" in command]
    assert [command[4:] for command in builds] == [("llama", "mtmd"), ("ggml-cpu",)]
    folder = tmp_path / llama_build.FOLDER
    assert (folder / "lib").resolve() == folder / "gcc" / "bin", "of the first build"
    assert not any("amx" in word for word in commands[0])
    assert any("-mno-amx-int8" in word for word in commands[2])
    preloaded = llama_build.variables("gcc without AMX")["LD_PRELOAD"].format(root=tmp_path)
    assert Path(preloaded).parent.is_dir()


def test_a_compiler_that_is_missing_is_named(
    commands: list[tuple[str, ...]], tmp_path: Path
) -> None:
    peer = Peer("llama.cpp", "", "", build=llama_build.build_llama)
    with pytest.raises(PeerError, match="llama.cpp: no clang is installed .*clang-19"):
        prepare(peer, Configuration("clang without AMX, spins"), tmp_path)
    assert not commands
