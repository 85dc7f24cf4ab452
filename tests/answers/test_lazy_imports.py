"""Importing the package or the model loads no library before it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

import handglass
from handglass.errors import InputError
from handglass.runtime.answer.model import Model


def test_the_package_offers_load_and_model_lazily() -> None:
    assert handglass.Model is Model
    assert handglass.load is not None
    assert {"Model", "load", "__version__"} <= set(dir(handglass))
    with pytest.raises(AttributeError, match="'nothing'"):
        handglass.nothing  # noqa: B018
    with pytest.raises(InputError, match="nowhere: not a bundle"):
        handglass.load("nowhere")


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, handglass; print(handglass.__version__, *sorted(sys.modules))"
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    version, *modules = child.stdout.split()
    assert version == "0.1.0"
    assert not {"numpy", "PIL", "tvm_ffi", "handglass.runtime"} & set(modules)


def test_importing_the_model_imports_no_library_before_it_is_needed() -> None:
    code = "import sys, handglass.runtime.answer.model; print(*sorted(sys.modules))"
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    heavy = {"tvm", "tvm_ffi", "torch", "tokenizers", "sentencepiece", "PIL", "onnx"}
    assert not heavy & set(child.stdout.split())
