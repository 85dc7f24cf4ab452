"""A compiler for `handglass quickstart` that writes a small bundle at once, without TVM."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from written_bundle import MANIFEST, write

from handglass.cli import quickstart_make
from handglass.compiler.parity.ratios import Stage
from handglass.runtime.bundle.writer import BundleWriter

GB = 1_000_000_000
BYTES = {"w8a8": 1.0, "w4a8": 0.6}  # per parameter


@dataclass
class FakeCompiler:
    """Notes what it is asked for; `fails` is raised when a bundle is half written."""

    parameters: int = 4_000_000
    state: int = 1 << 20
    context: int = 4096
    fits_disk: bool = True
    fails: BaseException | None = None
    is_right: bool = True
    compiled: list[dict[str, Any]] = field(default_factory=list)
    verified: list[Path] = field(default_factory=list)

    def plan_model(self, model: Path, **options: Any) -> Any:
        context = options["context"] or self.context
        state = self.state * context // self.context // (2 if options["kv_cache"] else 1)
        weights = int(self.parameters * BYTES[options["quantization"]])
        disk = SimpleNamespace(folder="/there", bundle=weights, free=7, fits=self.fits_disk)
        return SimpleNamespace(
            model=SimpleNamespace(name="Tiny", parameters=self.parameters),
            target="host",
            scheme={"language": options["quantization"]},
            kv_cache=options["kv_cache"] or "f16",
            context=context,
            memory=SimpleNamespace(resident=weights + state, limit=None, fits=None),
            disk=disk,
        )

    def compile_model(self, model: Path, output: Path, progress: Any, **options: Any) -> Any:
        self.compiled.append(options)
        if self.fails is not None:
            with BundleWriter(output, overwrite=True) as writer:
                writer.add_file("lib.so", b"half")
                raise self.fails
        write(output, overwrite=True)
        return SimpleNamespace(bundle_bytes=20)

    def verify(self, bundle: Path, *_: Any, **__: Any) -> list[Stage]:
        self.verified.append(bundle)
        return [Stage("logits", 50.0, 30.0, ok=self.is_right)]


def install(fake: FakeCompiler, put: Callable[[dict[str, Any], str, Any], None]) -> None:
    """`put(modules, name, module)` replaces a module, as `monkeypatch.setitem` does."""
    for name in ("build", "plan", "verify"):
        put(sys.modules, f"handglass.compiler.{name}", fake)
    put(vars(quickstart_make), "importing_compiler", nullcontext)


__all__ = ["MANIFEST", "FakeCompiler", "install"]
