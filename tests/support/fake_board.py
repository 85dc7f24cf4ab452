"""A device and a builder without code: a library is its choices, times and results are given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handglass.compiler.lowering.task_arguments import Arguments
from handglass.compiler.lowering.tasks import Task
from handglass.compiler.tuning.builder import Built
from handglass.compiler.tuning.device_runner import CandidateError
from handglass.runtime.remote.client import Difference


def key(choices: Mapping[str, int]) -> bytes:
    return repr(sorted(choices.items())).encode()


class Maker:
    """A builder whose libraries are the choices; `broken` gives the reason of a failure, if any."""

    def __init__(self, broken: Callable[[Mapping[str, int]], str] = lambda choices: "") -> None:
        self.broken = broken
        self.built = 0

    def build(self, task: Task, choices: Mapping[str, int]) -> Built:
        self.built += 1
        reason = self.broken(choices)
        return Built(None if reason else key(choices), reason)


class Board:
    """A device. `time(panels, lengths)`: microseconds or a failure; `snr(panels)`: dB."""

    def __init__(
        self,
        time: Callable[[int, tuple[Any, ...]], float | str],
        snr: Callable[[int], float | None] = lambda panels: None,
    ) -> None:
        self.time, self.snr = time, snr
        self.sizes: tuple[Any, ...] = ()

    def prepare(self, arguments: Arguments) -> None:
        self.sizes = arguments.sizes

    def calls_for(self, library: bytes) -> int:
        return len(self.seconds(library, 1, 1))

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        found = self.time(dict(eval(library))["panels"], self.sizes)
        if isinstance(found, str):
            raise CandidateError(found)
        return [found * 1e-6] * samples

    def compare(self, reference: bytes, candidate: bytes, seed: int) -> Sequence[Difference]:
        snr = self.snr(dict(eval(candidate))["panels"])
        return [Difference(len(self.sizes) - 1, snr, 0.5, 1.0, snr != float("-inf"))]


def by_panels(**times: float | str) -> Callable[[int, tuple[Any, ...]], float | str]:
    return lambda panels, sizes: times[f"p{panels}"]
