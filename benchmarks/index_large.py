"""Proof of `handglass index` and `search` by thousands of drawings.

    python benchmarks/index_large.py build/demo-search --pictures 10000 --kills 8

Indexes drawings, among them four files that are no pictures; is killed with SIGKILL at random
moments and run again; changes the folder and indexes what has changed; compares rows with those of
a new encoder, and what a search finds with a product in float64. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from index_pictures import add_damaged, change, draw_pictures
from scenes import every_shape
from soak_killed import HANDGLASS, Killed, Verb, wait_until

from handglass.runtime.search.encoder import Encoder
from handglass.runtime.search.index_file import Index
from handglass.runtime.search.nearest import nearest

MB = 1e6
PARTS = (50, 75, 90, 99)
"""Moments of a run at which its memory is shown, in percent of its time."""
LONGEST_WAIT_S = 0.05
ENCODED_AGAIN = 100
"""Pictures whose rows are compared with those of a new encoder."""
CLOSE = 1e-6
"""Cosines in float32 that differ by less may be in either order."""


class Proof:
    """One bundle, one folder of pictures, one index."""

    def __init__(self, bundle: Path, work: Path, count: int, seed: int) -> None:
        self.bundle, self.folder, self.path = bundle, work / "pictures", work / "pictures.index"
        self.rng = random.Random(seed)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.shown = draw_pictures(self.folder, count, seed)
        self.damaged = add_damaged(self.folder, self.folder / next(iter(self.shown)))
        self.killed = Killed("index")
        self.check = self.killed.check
        self.path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    @property
    def _journal(self) -> Path:
        return self.path.with_name(f"{self.path.name}.journal")

    @property
    def _words(self) -> tuple[object, ...]:
        return "index", self.bundle, self.folder, "-o", self.path

    def ready(self) -> int:
        """Pictures whose rows the disk has."""
        if self.path.exists():
            return len(Index.read(self.path).entries)
        try:
            return self._journal.read_bytes().count(b"\n") - 1
        except FileNotFoundError:
            return 0

    def _has(self, count: int) -> bool:
        return self.ready() >= count

    def kill(self, kills: int) -> None:
        """Start and kill, each time after some more pictures, so that none of the runs ends."""
        before, most = 0, len(self.shown) // (kills + 1)
        for number in range(kills):
            target = before + self.rng.randint(0, most)
            verb = Verb(*self._words)
            wait_until(partial(self._has, target), verb)
            time.sleep(self.rng.uniform(0, LONGEST_WAIT_S))
            before = self._killed(verb, number, before)

    def kill_at_the_end(self, kills: int, seconds: float) -> None:
        """The same for a run that has nothing to encode, but writes the whole index."""
        for number in range(kills):
            verb = Verb(*self._words)
            time.sleep(self.rng.uniform(seconds / 2, seconds))
            self._killed(verb, number, len(self.shown))

    def _killed(self, verb: Verb, number: int, before: int) -> int:
        """How many rows are ready after a kill."""
        self.killed.kills += 1
        self.killed.middle += verb.runs
        verb.kill()
        now = self.ready()
        self.check(now >= before, f"{before - now} rows are lost")
        print(f"kill {number + 1}: {now} rows are ready", flush=True)
        return now

    def run(self) -> tuple[dict[str, Any], str, float]:
        """One whole run: what it counted, its memory, its seconds."""
        command = [*HANDGLASS, *map(str, self._words), "--json"]
        start, held = time.monotonic(), []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None:
                held.append(resident(child.pid))
                time.sleep(0.05)
            assert child.stdout is not None
            out = child.stdout.read()
        self.check(child.returncode == 0, f"ended with {child.returncode}")
        shown = " / ".join(f"{held[len(held) * part // 100] / MB:.0f}" for part in PARTS)
        return json.loads(out), f"{shown} MB at {PARTS} %", time.monotonic() - start

    def counts(self, what: str, expected: dict[str, int]) -> float:
        """Run, and compare what was counted; its seconds."""
        outcome, memory, seconds = self.run()
        found = {key: outcome[key] for key in expected}
        self.check(found == expected, f"{what}: {found}, not {expected}")
        self.check(set(outcome["skipped"]) == self.damaged, f"{what}: {outcome['skipped']}")
        self.check(not self._journal.exists(), f"{what}: the journal is left")
        print(f"{what}: {counted(outcome)}; {seconds:.1f} s, {memory}", flush=True)
        return seconds

    def rows(self) -> None:
        """Rows are those that a new encoder gives."""
        index, encoder = Index.read(self.path), Encoder.load(self.bundle)
        for at in self.rng.sample(range(len(index.entries)), ENCODED_AGAIN):
            row = encoder.picture((self.folder / index.entries[at].name).read_bytes())
            name = index.entries[at].name
            self.check(np.array_equal(row, index.rows[at]), f"the row of {name} is another one")
        print(f"rows: {ENCODED_AGAIN} are those of a new encoder")

    def search(self) -> None:
        """What is found, how often the first picture shows what the text says, and how soon."""
        index, encoder = Index.read(self.path), Encoder.load(self.bundle)
        texts = list(every_shape())
        queries, seconds, right, one = encoder.labels(texts, "a {}"), [], 0, 0
        for text, query in zip(texts, queries, strict=True):
            start = time.perf_counter()
            found = nearest(index, query, 10)
            seconds.append(time.perf_counter() - start)
            truth = index.rows.astype(np.float64) @ query.astype(np.float64)
            best = np.sort(truth)[::-1][:10]
            cosines = np.array([one.cosine for one in found])
            self.check(np.abs(cosines - best).max() < CLOSE, f"{text}: others are nearer")
            right += text in self.shown.get(found[0].name, ())
            one += self.shown.get(found[0].name) == {text}
        print(
            f"search: {len(texts)} texts; the first of {len(index.entries)} pictures shows what "
            f"the text says in {right}, and nothing else in {one}; "
            f"{1000 * statistics.median(seconds):.2f} ms in memory"
        )

    def verb(self) -> None:
        """A search as a command, from start to end."""
        start = time.monotonic()
        command = [*HANDGLASS, "search", str(self.path), "a small blue star"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.check(done.returncode == 0, f"search ended with {done.returncode}: {done.stderr}")
        print(f"handglass search: {time.monotonic() - start:.1f} s")


def counted(outcome: dict[str, Any]) -> str:
    kinds = ("total", "added", "moved", "unchanged", "removed")
    return ", ".join(f"{outcome[kind]} {kind}" for kind in kinds) + (
        f", {len(outcome['skipped'])} skipped"
    )


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 if it has ended."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def prove(proof: Proof, kills: int) -> None:
    count = len(proof.shown)
    proof.kill(kills)
    proof.counts("resumed", {"total": count, "added": count, "removed": 0})
    seconds = proof.counts("again", {"total": count, "added": 0, "unchanged": count})
    proof.kill_at_the_end(kills, seconds)
    proof.path.unlink()
    proof.counts("at once", {"total": count, "added": count, "removed": 0})
    proof.rows()
    proof.search()
    proof.verb()
    expected = change(proof.folder, list(proof.shown), proof.rng)
    proof.counts("changed", expected)
    proof.rows()


def main() -> int:
    parser = argparse.ArgumentParser(description="index many drawings, and be killed meanwhile")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/index-large"))
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start = time.monotonic()
    proof = Proof(args.bundle, args.work, args.pictures, args.seed)
    print(f"{len(proof.shown)} drawings, {time.monotonic() - start:.0f} s", flush=True)
    prove(proof, args.kills)
    killed = proof.killed
    print(f"{killed.kills} kills, {killed.middle} in the middle of the work")
    for line in killed.lost:
        print(f"WRONG: {line}")
    return 1 if killed.lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
