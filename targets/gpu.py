"""GPU capabilities of a target: what its code may use, and the limits.

Fields have the names of the attributes of TVM's target kinds. They are compared with the actual
capabilities of a device before a bundle is loaded (runtime/bundle/requirements.py). Each kind of
GPU adds its fields in a subclass.
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
    """Capabilities common to all kinds of GPU. The defaults hold for all phones."""

    kind: ClassVar[str]
    """Name of the kind in runtime/devices/kinds.py and in TVM."""

    supports_float16: bool = True
    supports_int8: bool = True
    supports_int16: bool = True
    supports_int64: bool = False
    supports_integer_dot_product: bool = False
    cooperative_matrix: Shape | None = None  # (M, N, K) of float16 x float16 -> float32
    subgroup_size: int | None = None
    """Threads of a subgroup (a warp); None if unknown."""
    max_threads_per_block: int = 256
    max_shared_memory_per_block: int = 16 << 10

    @property
    def abilities(self) -> dict[str, int]:
        """The minimum that a device must have to run the code, for the manifest."""
        found = {key: int(value) for key, value in self._plain().items()}
        found["supports_cooperative_matrix"] = int(self.cooperative_matrix is not None)
        return found

    def only(self: G, used: Mapping[str, int]) -> G:
        """These capabilities with only the features in `used` (codegen/used.py); same limits."""
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
    def images(self) -> tuple[str, ...]:
        """The architectures that its code is compiled for; empty if the kind has only one."""
        return ()

    @property
    @abstractmethod
    def tvm(self) -> dict[str, Any]:
        """The argument for `tvm.target.Target`, without the host."""

    def _plain(self) -> dict[str, Any]:
        """The fields that are attributes in TVM."""
        return {key: value for key, value in asdict(self).items() if key not in _MATRICES}


_MATRICES = ("cooperative_matrix", "subgroup_size")
