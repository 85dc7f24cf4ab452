"""Deployment by folder, ssh and adb: one question, files sent once, resumed after every fault."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_device import ADB, SSH, lock_of, program
from PIL import Image
from thinned import only

import handglass
from handglass.errors import DeviceError, InputError, MismatchError, UsageError
from handglass.runtime.answer.timings import Timings
from handglass.runtime.bundle.reader import Bundle
from handglass.targets.deploy import adb, deploy, device, runtime, start
from handglass.targets.deploy.deploy import Deployment

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture
def device_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the fake devices keep their files; their Python is this one."""
    home, faults = tmp_path / "home", tmp_path / "faults"
    home.mkdir()
    faults.mkdir()
    names = {"home": home, "faults": faults}
    program(
        tmp_path / "bin", "ssh", SSH.replace("{home}", str(home)).replace("{faults}", str(faults))
    )
    program(tmp_path / "bin", "adb", ADB.format(**names))
    python = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{python}:{os.environ['PATH']}")
    monkeypatch.setenv("HANDGLASS_PYTHON", sys.executable)
    monkeypatch.setattr(adb, "FOLDER", str(home / "handglass"))
    return home


@pytest.fixture
def bring(
    small_bundle: Path, device_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Deployment]:
    wheels = lock_of(tmp_path / "wheels", monkeypatch)
    # The Python of the fake device is this one, which may have handglass installed.
    monkeypatch.setattr(runtime, "has_runtime", lambda python, manifest: False)

    def call(to: str, bundle: Path = small_bundle, **options: Any) -> Deployment:
        given: dict[str, Any] = {"prompt": "Hello", "offline": wheels, **options}
        return deploy.deploy(bundle, to, **given)

    return call


@pytest.fixture(params=only(["ssh"], ["folder", "ssh", "adb"]))
def to(request: pytest.FixtureRequest, device_home: Path) -> str:
    known = {"folder": str(device_home / "handglass"), "ssh": "ssh:pi@board", "adb": "adb:phone-1"}
    return known[request.param]


def test_the_answer_is_the_one_from_here(
    to: str, bring: Callable[..., Deployment], handglass: Any, small_bundle: Path
) -> None:
    done = bring(to, prompt='What\'s "it"; $HOME?')
    here = handglass("run", "-m", small_bundle, "-p", 'What\'s "it"; $HOME?', "--json").json
    assert done.answer is not None
    assert done.answer["tokens"] == here["tokens"]
    assert done.why_not_run == "" and "./ask -p" in done.command


def test_what_is_there_is_not_sent_again(
    to: str, bring: Callable[..., Deployment], device_home: Path, small_bundle: Path
) -> None:
    first, second = bring(to), bring(to)
    assert len(first.sent) > len(list(small_bundle.iterdir()))
    assert (second.sent, second.bytes_sent) == ([], 0)
    there = device_home / "handglass"
    (there / "bundle" / "lib.so").write_bytes(b"spoiled")
    shutil.rmtree(next((there / "packages").glob("extra-*")))
    third = bring(to)
    assert third.sent[-1] == "bundle/lib.so" and len(third.sent) == 2
    assert third.answer and third.answer["tokens"] == (first.answer or {})["tokens"]
    assert not list(there.glob(".part-*")) and not list(there.glob("packages/*.tar.gz"))


@pytest.mark.parametrize(
    ("to", "lose"),
    only([("adb:phone-1", 0)], product(["adb:phone-1", "ssh:pi@board"], [0, 5000])),
)
def test_a_device_that_goes_away_in_the_middle(
    to: str, lose: int, bring: Callable[..., Deployment], device_home: Path, tmp_path: Path
) -> None:
    bring(to)
    there = device_home / "handglass"
    (there / "bundle" / "lib.so").unlink()
    (tmp_path / "faults" / "lose").write_text(str(lose))
    with pytest.raises(DeviceError, match="lost.*again"):
        bring(to)
    assert not (there / "bundle" / "lib.so").exists(), "a part took the name of the whole"
    resumed = bring(to)
    assert resumed.sent == ["bundle/lib.so"] and resumed.answer
    size = (there / "bundle" / "lib.so").stat().st_size
    kept = lose if to.startswith("ssh") else 0  # adb resends the whole file
    assert resumed.bytes_sent == size - kept


def test_no_connection(bring: Callable[..., Deployment]) -> None:
    with pytest.raises(DeviceError, match="nobody: .*Connection refused"):
        bring("ssh:nobody")
    with pytest.raises(DeviceError, match="adb:phone-2: .*'phone-2' not found"):
        bring("adb:phone-2")


@pytest.mark.parametrize("to", ["ssh:", "ssh:-oProxyCommand=x", "ssh:a b", "adb:", "adb:-x y", ""])
def test_addresses_that_are_none(to: str, bring: Callable[..., Deployment]) -> None:
    with pytest.raises(UsageError, match="ssh:|adb:"):
        bring(to)


@pytest.mark.large
def test_a_disk_that_is_full(bring: Callable[..., Deployment], device_home: Path) -> None:
    there = device_home / "handglass"
    bring(str(there))
    lib = there / "bundle" / "lib.so"
    part = f".part-{deploy.Item.of('x', lib).sha256}"
    lib.unlink()
    (there / part).symlink_to("/dev/full")
    for to in (str(there), "ssh:pi@board"):
        with pytest.raises(DeviceError, match=r"no space left .*lib\.so"):
            bring(to)
    (there / part).unlink()
    assert bring(str(there)).answer


def test_too_little_space_is_found_out_first(
    bring: Callable[..., Deployment], device_home: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin", "df", "#!/bin/sh\necho head\necho disk 9 9 5 1% /\n")
    with pytest.raises(DeviceError, match=r"\b0 MB .*, \d+ MB"):
        bring("ssh:pi@board")
    assert not list(device_home.rglob("lib.so"))


def test_a_wheel_that_was_tampered_with(
    bring: Callable[..., Deployment], tmp_path: Path, device_home: Path
) -> None:
    wheel = next((tmp_path / "wheels").glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(MismatchError, match=r"extra-1\.0.*sha256.*wheels\.lock\.json"):
        bring("ssh:pi@board")
    wheel.unlink()
    with pytest.raises(DeviceError, match=r"extra-1\.0.*--offline"):
        bring("ssh:pi@board")
    assert not list(device_home.rglob("extra*"))


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\b.py"])
def test_a_wheel_that_leads_out_of_its_folder(
    name: str, bring: Callable[..., Deployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "wheels")
    lock_of(tmp_path / "wheels", monkeypatch, **{name: b"print('gone')"})
    with pytest.raises(MismatchError, match=re.escape(repr(name))):
        bring("ssh:pi@board")


def test_bytes_that_changed_on_the_way(
    bring: Callable[..., Deployment], tmp_path: Path, device_home: Path
) -> None:
    ssh = (tmp_path / "bin" / "ssh").read_text()
    program(tmp_path / "bin", "ssh", ssh.replace("cat*) if", 'cat*) printf x | sh -c "$3"; if'))
    with pytest.raises(DeviceError, match="sha256"):
        bring("ssh:pi@board")
    assert not list(device_home.rglob(".part-*")), "a damaged part cannot be resumed"


def test_a_damaged_bundle_goes_nowhere(
    bring: Callable[..., Deployment], small_bundle: Path, tmp_path: Path, device_home: Path
) -> None:
    copy = Path(shutil.copytree(small_bundle, tmp_path / "copy"))
    (copy / "lib.so").write_bytes(b"spoiled")
    with pytest.raises(MismatchError, match=r"lib\.so"):
        bring("ssh:pi@board", copy)
    assert list(device_home.iterdir()) == []


def changed(bundle: Path, folder: Path, **target: Any) -> Path:
    copy = Path(shutil.copytree(bundle, folder))
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    manifest["target"].update(target)
    (copy / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return copy


def test_another_architecture(
    bring: Callable[..., Deployment], small_bundle: Path, tmp_path: Path, device_home: Path
) -> None:
    """A device rejects the bundle; a folder accepts it, since it may be a memory card."""
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    foreign = changed(small_bundle, tmp_path / "foreign", triple=f"{other}-linux-gnu")
    with pytest.raises(DeviceError, match=f"board: .*{other}"):
        bring("ssh:board", foreign)
    done = bring(str(device_home / "card"), foreign, python="3.12")
    assert done.answer is None and "host" in done.why_not_run
    assert "python3.12" in (device_home / "card" / "ask").read_text()


def test_a_floor_that_the_device_lacks(
    bring: Callable[..., Deployment], small_bundle: Path, tmp_path: Path, device_home: Path
) -> None:
    newer = changed(small_bundle, tmp_path / "newer", features=["avx1024"])
    with pytest.raises(DeviceError, match="board: .*avx1024"):
        bring("ssh:board", newer)
    done = bring(str(device_home / "card"), newer)
    assert done.answer is None and "avx1024" in done.why_not_run


def test_an_android_bundle_wants_the_native_runner(
    bring: Callable[..., Deployment], small_bundle: Path, tmp_path: Path
) -> None:
    triple = f"{os.uname().machine}-linux-android24"
    phone = changed(small_bundle, tmp_path / "phone", triple=triple)
    with pytest.raises(DeviceError, match="adb:phone-1: .*--native"):
        bring("adb:phone-1", phone)


NATIVE = """#!/bin/sh
test "$*" = "run bundle --ids request/request.json --pixels request/tile-0.safetensors" &&
test -f request/request.json && test -f "$6" && test -f native/licenses/LICENSE || exit 1
echo 17
echo 23
"""


def test_the_native_runner_is_sent_and_asked(
    bring: Callable[..., Deployment], small_bundle: Path, tmp_path: Path, device_home: Path
) -> None:
    """This machine converts text and images to numbers, and numbers to text."""
    native_request = pytest.importorskip("handglass.runtime.answer.native_request")
    native, picture = tmp_path / "native", tmp_path / "p.png"
    Image.effect_noise((90, 40), 60).save(picture)
    timings = asdict(Timings(1.5, (2.0,), (64,), 9, 0, 3.0, 1, 1.0, 4.0, 9.0))
    last = {"finish_reason": "stop", "tokens": 2, "thinking": False, "timings": timings}
    end = json.dumps(last)
    program(native, start.RUNNER, f"{NATIVE}echo '{end}'\n")
    (native / "licenses").mkdir()
    (native / "licenses" / "LICENSE").write_text("free")
    done = bring("adb:phone-1", native=native, prompt="How many?", images=[picture])
    tokenizer = native_request.RequestWriter(small_bundle).tokenizer
    surface = b"".join(tokenizer.surface(token) for token in (17, 23)).decode()
    assert done.answer and done.answer["tokens"] == (17, 23)
    assert done.answer["text"].strip() == surface.strip()
    assert not (device_home / "handglass" / "packages").exists()
    (native / start.RUNNER).unlink()
    with pytest.raises(InputError, match="handglass-native"):
        bring("adb:phone-1", native=native)


FACTS = """architecture aarch64
free /dev/root 30000000 20000000 9000000 70% /
MemTotal:        4000000 kB
Features : fp asimd asimddp
"""
PYTHON = device.Python("python3", "3.11", "glibc 2.36", "", "", "")


def test_what_a_device_says() -> None:
    found = device.parse(f"{FACTS}python {json.dumps(vars(PYTHON))}\n")
    assert (found.architecture, found.free, found.memory) == ("aarch64", 9216000000, 4096000000)
    assert found.flags == {"fp", "asimd", "asimddp"} and found.pythons == (PYTHON,)


@pytest.mark.parametrize(
    ("pythons", "wanted", "words"),
    [
        ((), None, r"3\.10.*none.*python3"),
        ((PYTHON,), "3.12", r"3\.12.*3\.11"),
        ((replace(PYTHON, version="3.9"),), None, r"3\.9"),
        ((replace(PYTHON, libc=""),), None, r"not glibc.*2\.28.*--native"),
        ((replace(PYTHON, libc="glibc 2.17"),), None, r"glibc 2\.17"),
    ],
)
def test_pythons_that_do_not_do(
    pythons: tuple[device.Python, ...], wanted: str | None, words: str
) -> None:
    board = replace(device.parse(FACTS), pythons=pythons)
    with pytest.raises(DeviceError, match=f"pi: .*{words}"):
        device.choose_python("pi", board, wanted)


def test_the_first_python_that_does() -> None:
    old, new = replace(PYTHON, version="3.9"), replace(PYTHON, version="3.13")
    board = replace(device.parse(FACTS), pythons=(old, PYTHON, new))
    assert device.choose_python("pi", board, None) == PYTHON
    assert device.choose_python("pi", board, "3.13") == new


def test_a_device_that_says_something_else(
    bring: Callable[..., Deployment], tmp_path: Path
) -> None:
    program(tmp_path / "bin", "ssh", "#!/bin/sh\necho 'architecture Windows 11'\n")
    with pytest.raises(DeviceError, match="board: .*'architecture Windows 11"):
        bring("ssh:board")


def test_a_device_that_has_all_of_it_gets_no_packages(small_bundle: Path) -> None:
    manifest = Bundle.open(small_bundle).manifest
    versions = manifest.versions
    full = device.Python("python3", "3.11", "glibc 2.36", handglass.__version__, "", "")
    full = replace(full, tvm_ffi=versions["tvm_ffi"])
    assert runtime.has_runtime(full, manifest)  # this bundle contains the runtime library
    without = replace(manifest, files={})
    assert not runtime.has_runtime(full, without)
    assert runtime.has_runtime(replace(full, tvm=versions["tvm"]), without)
    for lacks in ({"handglass": ""}, {"handglass": "0.0.1"}, {"tvm_ffi": "0.1.15"}):
        assert not runtime.has_runtime(replace(full, **lacks), manifest)
