"""What is no regular file is refused by every reader: a pipe would hang it, a device never end."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from written_bundle import write

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.shards import open_shards, read_json
from handglass.compiler.records.journal import read
from handglass.errors import HandglassError, InputError, MismatchError
from handglass.runtime.answer.native_request import RequestWriter, main
from handglass.runtime.bundle.file_checks import sha256_of
from handglass.runtime.bundle.reader import Bundle, is_bundle
from handglass.runtime.bundle.tensors import TensorFile
from handglass.runtime.execution.known_answers import read_cases
from handglass.runtime.prompt.tokenizer import open_tokenizer
from handglass.runtime.remote.keys import find_key
from handglass.runtime.system.regular_file import open_regular, read_regular
from handglass.runtime.system.user_cache import read_cached
from handglass.targets.target_file import read_target


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS: dict[str, Callable[[Path], None]] = {
    "a named pipe": fifo,
    "a device": endless,
    "a socket": listening,
    "a folder": Path.mkdir,
}


@pytest.fixture(params=KINDS)
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path at which something other than a file is."""
    KINDS[request.param](tmp_path / "special")
    return tmp_path / "special"


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_says_what_it_is(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "x")
    for read_it in (open_regular, read_regular, sha256_of):
        with pytest.raises(OSError, match=kind) as caught:
            read_it(tmp_path / "x")
        assert caught.value.filename == str(tmp_path / "x")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("x")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="4 bytes"):
        read_regular(tmp_path / "x", 4)
    assert read_regular(Path("/proc/self/status"))  # its size is said to be 0


READERS: dict[str, Callable[[Path], object]] = {
    "tensors": TensorFile.open,
    "json": read_json,
    "tokenizer": lambda path: open_tokenizer("tokenizers", path),
    "key": find_key,
    "target": lambda path: read_target(path, {}),
    "records": read,
    "known answers": read_cases,
    "output of the runner": lambda path: list(main([str(path.parent / "b"), "--read", str(path)])),
}


@pytest.mark.parametrize("name", READERS)
def test_each_reader_refuses_it(special: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestWriter, "__init__", lambda self, bundle: None)
    special.chmod(0o600) if not special.is_symlink() else None
    with pytest.raises(InputError, match="special"):
        READERS[name](special)


def test_a_cache_of_it_is_empty(special: Path) -> None:
    assert read_cached(special) == {}


def test_a_bundle_with_it(tmp_path: Path, special: Path) -> None:
    path = tmp_path / "bundle"
    write(path)
    for name in ("lib.so", "params-00001.safetensors"):
        (path / name).rename(tmp_path / "kept")
        special.rename(path / name)
        for verify in ("all", "library", "remembered"):
            with pytest.raises(MismatchError, match=name):
                Bundle.open(path, verify)
        assert [f.name for f in Bundle.inspect(path).files if f.problem] == [name]
        (path / name).rename(special)
        (tmp_path / "kept").rename(path / name)
    (path / "manifest.json").unlink()
    special.rename(path / "manifest.json")
    assert not is_bundle(path)
    for open_it in (Bundle.open, Bundle.inspect, Bundle.of_manifest):
        with pytest.raises(InputError, match=r"manifest\.json"):
            open_it(path)


def test_a_checkpoint_with_it(tmp_path: Path, special: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "model.safetensors.index.json"):
        (folder / "config.json").write_text("{}")
        (folder / name).unlink(missing_ok=True)
        special.rename(folder / name)
        with pytest.raises(HandglassError, match="checkpoint"):
            Checkpoint.open(folder)
        with pytest.raises(InputError, match="checkpoint"):
            open_shards(folder, allow_pickle=False)
        (folder / name).rename(special)
