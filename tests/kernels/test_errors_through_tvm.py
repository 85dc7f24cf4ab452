"""A Handglass error raised in a callback below TVM's C++ keeps its class above it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
import tvm_ffi
from vulkan_elementwise import elementwise
from vulkan_running import as_module, needs_vulkan, tvm_target
from vulkan_targets import BARE

from handglass import errors
from handglass.targets import known_targets
from handglass.targets.codegen.errors_through_tvm import keep_classes
from handglass.targets.codegen.vulkan.enable import enable_compiler
from handglass.targets.codegen.vulkan.gpu import VulkanCapabilities

pytestmark = pytest.mark.compiler
CLASSES = [errors.UsageError, errors.InputError, errors.DeviceError, errors.MismatchError]


@pytest.mark.parametrize("kind", CLASSES)
def test_class_and_words_survive(kind: type[errors.HandglassError]) -> None:
    keep_classes()

    def fail() -> None:
        raise kind("a sentence, with 'quotes' and\ntwo lines")

    through_c: Callable[[], None] = tvm_ffi.convert(fail)
    with pytest.raises(kind) as caught:
        through_c()
    assert type(caught.value) is kind
    assert str(caught.value) == "a sentence, with 'quotes' and\ntwo lines"


def test_no_class_is_forgotten() -> None:
    ours = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert [kind for kind in ours if kind is not errors.HandglassError] == CLASSES


def test_other_errors_stay_what_they_were() -> None:
    keep_classes()

    class OddError(Exception):
        pass

    def fail() -> None:
        raise OddError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        tvm_ffi.convert(fail)()


def test_a_plain_user_of_tvm_reads_the_sentence() -> None:
    """The error needs no runtime."""
    enable_compiler()
    func = as_module(elementwise(lambda x: x + x, ["float16"]))
    with pytest.raises(errors.InputError, match=r"^vulkan: .*main_kernel.*supports_16bit_buffer"):
        tvm.compile(func, target=tvm_target(BARE))


@needs_vulkan
@pytest.mark.slow
def test_compile_says_it_and_leaves_with_its_code(
    handglass: Callable[..., Any],
    small_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = known_targets()["vulkan"]
    assert isinstance(target.gpu, VulkanCapabilities)
    poor = replace(target, gpu=replace(target.gpu, supports_16bit_buffer=False))
    monkeypatch.setitem(known_targets(), "vulkan", poor)
    flags = ["-m", small_checkpoint, "-o", tmp_path / "bundle", "--target", "vulkan", "-c", "128"]
    result = handglass("compile", *flags, "--quantization", "f16")
    assert result.code == errors.InputError.exit_code, result.err
    assert "error: vulkan: kernel " in result.err
    assert "supports_16bit_buffer" in result.err
    assert "defect" not in result.err and "Traceback" not in result.err
    assert not (tmp_path / "bundle").exists()
