"""Trains the demo model from scratch, on drawings and questions that never repeat.

    python examples/train_demo.py --minutes 115 --out build/demo        train, then export
    python examples/train_demo.py --minutes 115 --out build/demo --resume
    python examples/train_demo.py --evaluate examples/demo-checkpoint   accuracy on new questions

The learning rate follows the clock, not the step count, so a run ends on time on any machine.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from demo_model import CONFIG, DemoModel, initialise, load_checkpoint, save_checkpoint
from demo_tokenizer import train_tokenizer
from muon import Muon
from packing import (
    EOS,
    GRID,
    IGNORE,
    QUERIES,
    ROW,
    UNK,
    Batch,
    Batches,
    Tokenizer,
    assemble,
    one_question,
    pixels,
    visible,
)
from PIL.Image import Image
from questions import Item, held_out
from scenes import HELD_OUT_SIDE, as_seen, draw
from torch import Tensor, nn
from torch.utils.data import DataLoader
from words import COLOURS, KINDS

PEAK = 2.0e-3
CONSTANT = 0.3  # fraction of the time at the full learning rate; then it decays linearly to zero
WARM_UP = 0.01
CLIP = 1.0
HELPERS_UNTIL = 0.5  # fraction of the time after which the auxiliary losses have a quarter weight
SAVE_EVERY = 180.0
EVALUATE_EVERY = 420.0
LONGEST = 48  # tokens of an answer; the longest correct one has 30


class Helpers(nn.Module):
    """Classifiers per picture cell, used in training only: the content of the cell, its color, and
    (on the resampler) its row and column. They train the vision tower long before the answers
    do."""

    def __init__(self, vision: int, width: int) -> None:
        super().__init__()
        self.sizes = (2 * len(KINDS) + 1, len(COLOURS) + 1, GRID, GRID)
        self.on_vision = nn.Linear(vision, sum(self.sizes[:2]))
        self.on_tokens = nn.Linear(width, sum(self.sizes))
        place = torch.arange(QUERIES)
        self.register_buffer("rows", place // GRID, persistent=False)
        self.register_buffer("columns", place % GRID, persistent=False)

    def forward(self, features: Tensor, tokens: Tensor, cells: Tensor) -> Tensor:
        kind, colour = self.on_vision(features).split(self.sizes[:2], -1)
        total = self._content(kind, cells[:, 0]) + self._content(colour, cells[:, 1])
        kind, colour, row, column = self.on_tokens(tokens).split(self.sizes, -1)
        total = total + self._content(kind, cells[:, 0]) + self._content(colour, cells[:, 1])
        return total + 0.3 * (_entropy(row, self.rows) + _entropy(column, self.columns))

    @staticmethod
    def _content(logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, with a weight of one fifth for the background, which most cells are."""
        weight = torch.ones(logits.shape[-1])
        weight[0] = 0.2
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss for labels that are the same for every picture."""
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


Losses = tuple[Tensor, Tensor, Tensor]


def losses(model: DemoModel, helpers: Helpers | None, batch: Batch) -> Losses:
    """The answer loss, the auxiliary loss, and the logits of the answer tokens."""
    features, tokens = model.encode(batch["pixels"])
    mask = visible(batch["branch"])
    hidden = model.text(batch["ids"], tokens, batch["places"], batch["positions"], mask)
    logits = model.logits(hidden.flatten(0, 1)[batch["targets"]])
    answer = F.cross_entropy(logits, batch["labels"], ignore_index=IGNORE)
    helper = helpers(features, tokens, batch["cells"]) if helpers else answer.new_zeros(())
    return answer, helper, logits


# --- the state of a run ---


@dataclass
class Run:
    model: DemoModel
    helpers: Helpers
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    elapsed: float = 0.0

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "helpers": self.helpers.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.helpers.load_state_dict(state["helpers"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.elapsed = state["step"], state["elapsed"]


def new_run(vocabulary: int) -> Run:
    model = DemoModel(CONFIG | {"vocab_size": vocabulary})
    initialise(model)
    helpers = Helpers(CONFIG["vision_config"]["hidden_size"], CONFIG["hidden_size"])
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.dim() == 2 and "embed" not in n and "query" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in chosen] + list(helpers.parameters())
    adam = torch.optim.AdamW(others, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0)
    return Run(model, helpers, [Muon(matrices, PEAK), adam])


def rate(done: float) -> float:
    if done < WARM_UP:
        return PEAK * (0.05 + 0.95 * done / WARM_UP)
    return PEAK * min(1.0, max(0.0, 1 - done) / (1 - CONSTANT))


def helper_weight(done: float) -> float:
    return 0.6 * max(1 - done / HELPERS_UNTIL, 0.25)


# --- training ---


def train(run: Run, tokenizer: Path, folder: Path, minutes: float) -> None:
    progress = torch.zeros(1).share_memory_()
    batches = Batches(tokenizer, f"train {run.step}", progress)
    loader = iter(DataLoader(batches, batch_size=None, num_workers=1))
    function = torch.compile(losses, dynamic=False)
    watch = Watch(run, folder, tokenizer)
    before = time.monotonic()
    while (done := run.elapsed / (60 * minutes)) < 1:
        progress.fill_(done)
        answer, helper = train_step(run, function, next(loader), done)
        run.step += 1
        now = time.monotonic()
        run.elapsed, before = run.elapsed + now - before, now
        watch.after_step(answer, helper, done)
    watch.save()


def train_step(
    run: Run, function: Callable[..., Losses], batch: Batch, done: float
) -> tuple[float, float]:
    for optimiser in run.optimisers:
        optimiser.zero_grad(set_to_none=True)
        for group in optimiser.param_groups:
            group["lr"] = rate(done)
    answer, helper, _ = function(run.model, run.helpers, batch)
    (answer + helper_weight(done) * helper).backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), CLIP)
    for optimiser in run.optimisers:
        optimiser.step()
    return answer.item(), helper.item()


class Watch:
    """Logs, saves states and measures accuracy at intervals of the run's clock."""

    def __init__(self, run: Run, folder: Path, tokenizer: Path) -> None:
        self.run, self.folder, self.tokenizer = run, folder, tokenizer
        self.items = list(held_out(420, seed=2))
        self.sums, self.since = [0.0, 0.0], (run.step, run.elapsed)
        self.saved = self.evaluated = run.elapsed

    def after_step(self, answer: float, helper: float, done: float) -> None:
        self.sums = [self.sums[0] + answer, self.sums[1] + helper]
        if self.run.step % 25 == 0:
            self._log(done)
        if self.run.elapsed - self.saved > SAVE_EVERY:
            self.save()
        if self.run.elapsed - self.evaluated > EVALUATE_EVERY:
            self.evaluated = self.run.elapsed
            print_table(self.items, exact(self.run.model, Tokenizer(self.tokenizer), self.items))

    def _log(self, done: float) -> None:
        steps, seconds = self.run.step - self.since[0], self.run.elapsed - self.since[1]
        answer, helper = (s / steps for s in self.sums)
        print(
            f"step {self.run.step}  {self.run.elapsed / 60:.1f} min  {seconds / steps:.2f} s/step  "
            f"rate {rate(done):.1e}  answers {answer:.4f}  helpers {helper:.3f}",
            flush=True,
        )
        self.sums, self.since = [0.0, 0.0], (self.run.step, self.run.elapsed)

    def save(self) -> None:
        self.saved = self.run.elapsed
        self.run.save(self.folder / "state.pt")
        save_checkpoint(self.run.model, self.folder / "checkpoint", self.tokenizer)


# --- accuracy ---


@torch.no_grad()
def exact(model: DemoModel, tok: Tokenizer, items: list[Item], size: int = 42) -> list[bool]:
    """Whether every token of the answer, including the end, is the most likely one given the
    correct tokens before it. For entirely correct answers this is equivalent to greedy decoding."""
    right: list[bool] = []
    rng, todo = random.Random(0), iter(items)
    while part := list(islice(todo, size)):
        rows = [one_question(tok, item) for item in part]
        batch = assemble(rng, rows, [item.scenes for item in part], 40 * len(part))
        wrong = losses(model, None, batch)[2].argmax(-1).ne(batch["labels"])
        wrong &= batch["labels"].ne(IGNORE)
        bad = set((batch["targets"][wrong] // ROW).tolist())
        right += [number not in bad for number in range(len(part))]
    return right


def print_table(items: list[Item], right: list[bool]) -> None:
    by_type: dict[str, list[bool]] = defaultdict(list)
    for item, ok in zip(items, right, strict=True):
        by_type[item.type].append(ok)
    for name, values in by_type.items():
        print(f"  {name:14} {100 * sum(values) / len(values):6.1f} %  of {len(values)}")
    print(f"  {'all':14} {100 * sum(right) / len(right):6.1f} %  of {len(right)}", flush=True)


@torch.no_grad()
def greedy(model: DemoModel, tok: Tokenizer, pictures: list[Image], question: str) -> str:
    """Decode the answer token by token, as a user gets it."""
    prompt = [*tok.prefix(len(pictures)), *tok.encode(question), tok.assistant]
    ids, answer = torch.tensor([prompt]), list[int]()
    tokens = torch.zeros(0, 1, CONFIG["hidden_size"])
    places = torch.zeros(0, dtype=torch.long)
    if pictures:
        tokens = model.encode(pixels([np.asarray(as_seen(p)) for p in pictures]))[1]
        places = ids[0].eq(UNK).nonzero()[:, 0]
    while len(answer) < LONGEST:
        where = torch.arange(ids.shape[1])[None]
        hidden = model.text(ids, tokens, places, where, visible(torch.zeros_like(ids)))
        token = int(model.logits(hidden[0, -1]).argmax())
        if token == EOS:
            break
        answer.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return tok.decode(answer)


def evaluate(folder: Path, count: int, seed: int) -> None:
    """Evaluate on the questions that `scenes.py --held-out` writes for the same seed."""
    model, tok = load_checkpoint(folder), Tokenizer(folder / "tokenizer.model")
    items = list(held_out(count, seed))
    answers = (
        greedy(model, tok, [draw(scene, HELD_OUT_SIDE) for scene in item.scenes], item.question)
        for item in items
    )
    print_table(items, [said == item.answer for said, item in zip(answers, items, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description="train or evaluate the demo model")
    parser.add_argument("--minutes", type=float, default=115, help="length of the whole run")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="resume from the saved state")
    parser.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="do not train")
    parser.add_argument("--questions", type=int, default=1000, help="for --evaluate")
    parser.add_argument("--seed", type=int, default=1, help="of the held-out questions")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate(args.evaluate, args.questions, args.seed)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = args.out / "tokenizer.model"
    if not args.resume:
        train_tokenizer(tokenizer)
    run = new_run(Tokenizer(tokenizer).model.get_piece_size())
    if args.resume:
        run.load(args.out / "state.pt")
    train(run, tokenizer, args.out, args.minutes)


if __name__ == "__main__":
    main()
