"""What stands behind a target: where its code has run and given right answers, who has timed it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """Empty text: nobody did. Whoever adds a target says what was done, not what is expected."""

    ran: str = ""
    """Where its code gave the answers of the references, in words that follow "ran on"."""
    timed: str = ""
    """The hardware on which it was timed."""
    emulated: bool = False
    """Whether its special instructions were replaced by plain C where it ran."""

    def __str__(self) -> str:
        timed = f"timed on {self.timed}" if self.timed else "not timed on hardware"
        if not self.ran:
            return f"never run; {timed}"
        instead = ", its special instructions in plain C" if self.emulated else ""
        return f"ran on {self.ran}{instead}; {timed}"
