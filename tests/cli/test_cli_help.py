"""Every verb has help, which is fast and imports no heavy packages."""

import json
import subprocess
import sys
from typing import Any

import pytest

from handglass import __version__
from handglass.cli.main import GROUPS, VERBS

HEAVY = ("numpy", "PIL", "tvm", "tvm_ffi", "torch", "tokenizers", "sentencepiece", "rich")
MOST_MODULES = 350
"""Modules of a start that needs 250: numpy alone adds 110, TVM 900."""

LOADED = """
import json, sys
from handglass.cli.main import execute
code = execute(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> tuple[int, set[str]]:
    """Run a command in a new process. Returns its exit code and the modules it imported."""
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


def test_help_names_every_verb(handglass: Any) -> None:
    result = handglass("--help")
    assert result.code == 0
    for name in (*VERBS, *GROUPS):
        assert f"\n  {name} " in result.out
    assert "..." not in result.out.split("Commands:")[1], "a short help text is too long"
    assert "Exit codes: 2 usage" in result.out


MEMBERS = [f"{group} {verb}" for group, (_, verbs) in GROUPS.items() for verb in verbs]


@pytest.mark.parametrize("verb", [*VERBS, *MEMBERS])
def test_every_verb_explains_its_flags(verb: str, handglass: Any) -> None:
    result = handglass(*verb.split(), "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: handglass {verb} ")
    assert "--json" in result.out


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_explains_its_verbs(group: str, handglass: Any) -> None:
    listed = handglass(group, "--help").out
    assert "..." not in listed.split("Commands:")[1], "a short help text is too long"
    for name in GROUPS[group][1]:
        assert f"\n  {name} " in listed
        assert "--json" in handglass(group, name, "--help").out


def test_no_arguments_show_the_help(handglass: Any) -> None:
    result = handglass()
    assert "Commands:" in result.out + result.err


def test_version(handglass: Any) -> None:
    assert handglass("--version").out == f"handglass {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["run"], ["device", "serve", "--help"], ["--version"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    _, modules = loaded_by(*arguments)
    assert not modules & set(HEAVY)


def test_targets_and_inspect_need_no_compiler(tmp_path: Any) -> None:
    for arguments in (["targets"], ["inspect", str(tmp_path)]):
        _, modules = loaded_by(*arguments)
        assert not modules & {"tvm", "torch", "handglass.compiler", "handglass.schedules"}


def test_the_list_of_models_needs_no_compiler() -> None:
    code, modules = loaded_by("models")
    assert code == 0
    assert not modules & {"tvm", "torch", "numpy", "handglass.compiler.models"}


def test_help_is_fast() -> None:
    """By what it loads, which a busy neighbour does not change."""
    code, modules = loaded_by("--help")
    assert code == 0
    assert len(modules) < MOST_MODULES


def test_the_package_is_a_command() -> None:
    command = [sys.executable, "-m", "handglass", "run", "-m", "nothing", "-p", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: nothing: ")
