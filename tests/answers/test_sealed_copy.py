"""What was hashed is what is loaded, whatever happens to the file afterwards."""

import ctypes
import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from handglass.errors import DeviceError, MismatchError
from handglass.runtime.execution.process import LoadedLibraries
from handglass.runtime.system import sealed_copy
from handglass.runtime.system.sealed_copy import load_copy, load_library, read_checked
from handglass.runtime.system.shared_library import SharedLibrary

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")


def built(folder: Path, number: int) -> SharedLibrary:
    """A library with the function `number`."""
    source, made = folder / f"{number}.c", folder / f"lib{number}.so"
    source.write_text(f"int number(void) {{ return {number}; }}")
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    return SharedLibrary(made, hashlib.sha256(made.read_bytes()).hexdigest())


def number_of(library: SharedLibrary) -> int:
    return int(load_library(library, ctypes.CDLL).number())


def test_another_content_is_not_loaded(tmp_path: Path) -> None:
    one, two = built(tmp_path, 1), built(tmp_path, 2)
    assert (number_of(one), number_of(two)) == (1, 2)
    two.path.replace(one.path)  # between the check of a bundle and its loading
    with pytest.raises(MismatchError, match=r"lib1\.so"):
        number_of(one)
    with pytest.raises(MismatchError, match=r"lib1\.so"):
        LoadedLibraries().load("one", lambda: one)
    one.path.unlink()
    with pytest.raises(MismatchError, match=r"lib1\.so"):
        number_of(one)


def test_a_file_renamed_over_it_after_the_check_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = built(tmp_path, 1), built(tmp_path, 2)

    def then_replaced(library: SharedLibrary) -> bytes:
        data = read_checked(library)
        two.path.replace(library.path)
        return data

    monkeypatch.setattr(sealed_copy, "read_checked", then_replaced)
    assert number_of(one) == 1


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memory files")
def test_the_copy_cannot_be_changed() -> None:
    outcomes: list[str] = []

    def change(path: str) -> None:
        assert path.startswith("/proc/self/fd/")
        for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
            try:
                os.write(os.open(path, flags), b"X")
            except PermissionError:
                outcomes.append("refused")

    load_copy(Path("x"), b"content", change)
    assert outcomes == ["refused"] * 2


def no_memory_files(name: str, flags: int = 0) -> int:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_without_memory_files_a_private_copy_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def load(path: str) -> int:
        seen.append((Path(path).parent.stat().st_mode & 0o777, Path(path).stat().st_mode & 0o777))
        return int(ctypes.CDLL(path).number())

    monkeypatch.setattr(os, "memfd_create", no_memory_files, raising=False)
    monkeypatch.setattr(sealed_copy, "_folders", lambda: [tmp_path / "none" / "such"])
    assert load_library(built(tmp_path, 3), load) == 3
    assert seen == [(0o700, 0o500)]
    assert list((tmp_path / "none" / "such").iterdir()) == []


def test_a_folder_that_forbids_execution_is_passed_over(tmp_path: Path) -> None:
    tried: list[str] = []

    def load(path: str) -> str:
        tried.append(path)
        if len(tried) == 1:
            raise OSError("failed to map segment from shared object")
        return path

    assert load_copy(Path("x"), b"code", load) == tried[1]
    assert not Path(tried[1]).exists()


def test_without_any_place_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(os, "memfd_create", no_memory_files, raising=False)
    monkeypatch.setattr(sealed_copy, "_folders", lambda: [tmp_path / "file"])
    with pytest.raises(DeviceError, match=r"lib\.so: .*TMPDIR"):
        load_copy(Path("lib.so"), b"code", ctypes.CDLL)


def test_what_is_no_library_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"no ELF file")
    library = SharedLibrary(tmp_path / "lib.so", hashlib.sha256(b"no ELF file").hexdigest())
    with pytest.raises(DeviceError, match=r"lib\.so: cannot be loaded") as caught:
        LoadedLibraries().load("x", lambda: library)
    assert "/proc/" not in str(caught.value) and "handglass-" not in str(caught.value)
