"""What code for a GPU may use, and how much of it: the part of a target that is not its CPU.

Fields are spelled as the attributes of TVM's target kinds are; what a device really has is compared
with them before a bundle is loaded (runtime/bundle/requirements.py). A kind of GPUs adds its own in
a class of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

Shape = tuple[int, int, int]
G = TypeVar("G", bound="GpuCapabilities")


@dataclass(frozen=True)
class GpuCapabilities(ABC):
    """What every GPU has, more or less of it. The numbers are such as all phones have."""

    kind: ClassVar[str]
    """As runtime/devices/kinds.py and TVM call it."""

    supports_float16: bool = True
    supports_int8: bool = True
    supports_int16: bool = True
    supports_int64: bool = False
    supports_integer_dot_product: bool = False
    cooperative_matrix: Shape | None = None  # (M, N, K) of float16 x float16 -> float32
    subgroup_size: int | None = None
    """Threads of a subgroup (a warp); None: it is not known."""
    max_threads_per_block: int = 256
    max_shared_memory_per_block: int = 16 << 10

    @property
    def abilities(self) -> dict[str, int]:
        """What the code relies on, for the manifest: a device may have more, and not less."""
        found = {key: int(value) for key, value in self._plain().items()}
        found["supports_cooperative_matrix"] = int(self.cooperative_matrix is not None)
        return found

    def only(self: G, used: Mapping[str, int]) -> G:
        """The same without features that are not `used` (codegen/used.py); limits stay."""
        kept = used.get("supports_cooperative_matrix")
        return replace(
            self,
            **{
                key: bool(value and used.get(key))
                for key, value in asdict(self).items()
                if key.startswith("supports_")
            },
            cooperative_matrix=self.cooperative_matrix if kept else None,
        )

    @property
    @abstractmethod
    def tvm(self) -> dict[str, Any]:
        """What `tvm.target.Target` takes, but the host."""

    def _plain(self) -> dict[str, Any]:
        """The fields that TVM has an attribute for."""
        return {key: value for key, value in asdict(self).items() if key not in _MATRICES}


_MATRICES = ("cooperative_matrix", "subgroup_size")
