"""Compares the held-out accuracy of the demo model, compiled in each scheme and in PyTorch.

    python benchmarks/demo_accuracy.py [--questions 1000] [--schemes f32 w4a8 w4/w4] [--no-torch]

All are asked the same questions. An answer counts if it equals the expected text. The scenes come
from seeds that training never uses. Prints a Markdown table by question type; `--json FILE` also
writes the figures to a file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from questions import Item, held_out  # noqa: E402
from scenes import draw  # noqa: E402

CHECKPOINT = ROOT / "examples" / "demo-checkpoint"
SIDE = 224  # side of the pictures in pixels; the model sees 112 x 112
Answerer = Callable[[Item], str]


def compiled(scheme: str, folder: Path) -> Answerer:
    """The bundle of a scheme, LANGUAGE or LANGUAGE/VISION, asked through the public API."""
    import handglass
    from handglass.compiler.build import compile_model

    bundle = folder / scheme.replace("/", "-")
    language, _, vision = scheme.partition("/")
    compile_model(CHECKPOINT, bundle, quantization=language, vision_quantization=vision or None)
    model = handglass.load(bundle)

    def answer(item: Item) -> str:
        pictures = [draw(scene, SIDE) for scene in item.scenes]
        text: str = model.chat(item.question, pictures, max_tokens=60).text
        return text

    return answer


def pytorch() -> Answerer:
    """The PyTorch model of the training code in float32, with greedy decoding."""
    from packing import Tokenizer
    from train_demo import greedy, load_checkpoint

    model, tokenizer = load_checkpoint(CHECKPOINT), Tokenizer(CHECKPOINT / "tokenizer.model")

    def answer(item: Item) -> str:
        pictures = [draw(scene, SIDE) for scene in item.scenes]
        text: str = greedy(model, tokenizer, pictures, item.question)
        return text

    return answer


def accuracy(answer: Answerer, items: Sequence[Item], name: str) -> dict[str, float]:
    """Percentage of exact answers by question type, and in total under "all"."""
    right: dict[str, list[bool]] = defaultdict(list)
    for number, item in enumerate(items):
        if number % 100 == 0:
            print(f"{name}: {number} of {len(items)}", file=sys.stderr, flush=True)
        right[item.type].append(answer(item) == item.answer)
    right["all"] = [ok for oks in right.values() for ok in oks]
    return {kind: 100 * sum(oks) / len(oks) for kind, oks in right.items()}


def table(figures: dict[str, dict[str, float]]) -> str:
    names = list(figures)
    lines = [f"| exact answers, % | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for kind in figures[names[0]]:
        cells = (f"{figures[name][kind]:.1f}" for name in names)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="held-out accuracy of the demo model by scheme")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemes", nargs="*", default=["f32", "bf16", "w4"])
    parser.add_argument("--no-torch", action="store_true", help="omit PyTorch")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    items = list(held_out(arguments.questions, arguments.seed))
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for scheme in arguments.schemes:
            figures[scheme] = accuracy(compiled(scheme, Path(folder)), items, scheme)
    if not arguments.no_torch:  # last, because torch starts its own thread pool
        figures["torch f32"] = accuracy(pytorch(), items, "torch")
    print(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
