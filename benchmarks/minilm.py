"""A real encoder of texts: all-MiniLM-L6-v2, beside PyTorch, and sentences found by their meaning.

    python benchmarks/minilm.py [FOLDER]

`make minilm` installs the checkpoint first. The rows of SENTENCES are computed by bundles in
several schemes, and by PyTorch: transformers' BertModel and tokenizer, whose rows are averaged
here, without code of handglass. In f32 each row must have a cosine of 0.9999 with PyTorch's. For
every sentence, the nearest other one should be of the same subject; how often it is, is printed for
each scheme.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel

from handglass.compiler.build import compile_model
from handglass.runtime.search.encoder import Encoder

FOLDER = Path("build/minilm")
SCHEMES = ("f32", "f16", "w8a8", "w4a8")
LEAST, LENGTH = 0.9999, 256
SENTENCES = {
    "weather": (
        "It has been raining since the morning.",
        "Tomorrow will be sunny and warm.",
        "Heavy snow has closed the mountain road.",
        "A cold wind blows from the sea.",
    ),
    "cooking": (
        "Stir the soup until the onions are soft.",
        "Bake the bread for forty minutes.",
        "Add a pinch of salt to the sauce.",
        "Peel the potatoes and cut them into slices.",
    ),
    "animals": (
        "The cat sleeps on the windowsill.",
        "A dog is chasing a ball in the park.",
        "Two horses graze behind the fence.",
        "The bird has built a nest under the roof.",
    ),
    "computers": (
        "The compiler reports an error in line ten.",
        "My laptop runs out of memory.",
        "Restart the server after the update.",
        "The program reads a file and prints its words.",
    ),
    "money": (
        "The bank has raised its interest rates.",
        "She paid the bill in cash.",
        "House prices have fallen for two years.",
        "He saves a tenth of his salary.",
    ),
    "travel": (
        "The train to the coast leaves at noon.",
        "Our flight was cancelled at the last minute.",
        "They walked from the hotel to the old harbour.",
        "You need a passport to cross the border.",
    ),
}
"""By subject."""
QUERIES = (
    "a pet at home",
    "how to prepare dinner",
    "software does not work",
    "is it going to storm",
)


class Reference:
    """PyTorch, float32."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = BertModel.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def row(self, text: str) -> np.ndarray:
        """The mean of the rows of all tokens, with length 1."""
        options = {"truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
        with torch.no_grad():
            rows = self.model(**self.tokenizer([text], **options)).last_hidden_state[0]
        mean = rows.mean(0).numpy()
        return np.asarray(mean / np.linalg.norm(mean))


def bundle(folder: Path, scheme: str) -> Path:
    out, start = FOLDER / scheme, time.monotonic()
    compile_model(folder, out, quantization=scheme, overwrite=True)
    print(f"{scheme}: compiled in {time.monotonic() - start:.1f} s", flush=True)
    return out


def same_subject(rows: np.ndarray, subjects: np.ndarray) -> float:
    """The share of rows whose nearest other row has the same subject."""
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    return float((subjects[cosines.argmax(1)] == subjects).mean())


def show(encoder: Encoder, sentences: list[str], rows: np.ndarray) -> None:
    for query in QUERIES:
        cosines = rows @ encoder.text(query)
        print(f"> {query}")
        for number in np.argsort(-cosines)[:2]:
            print(f"  {cosines[number]:.3f}  {sentences[number]}")


def installed() -> Path:
    found = sorted((FOLDER / "package").rglob("modules.json"))
    if len(found) != 1:
        raise SystemExit(f"{len(found)} checkpoints in {FOLDER / 'package'}: use 'make minilm'")
    return found[0].parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    folder = parser.parse_args().folder or installed()
    sentences = [text for texts in SENTENCES.values() for text in texts]
    subjects = np.array([name for name, texts in SENTENCES.items() for _ in texts])
    reference = Reference(folder)
    truth = np.stack([reference.row(text) for text in sentences])
    least = {}
    lines = [f"PyTorch f32 | 1 | 1 | {same_subject(truth, subjects):.1%}"]
    for scheme in SCHEMES:
        encoder = Encoder.load(bundle(folder, scheme))
        rows = np.stack([encoder.text(text) for text in sentences])
        cosines = (rows * truth).sum(1)
        least[scheme] = float(cosines.min())
        shares = f"{cosines.mean():.6f} | {same_subject(rows, subjects):.1%}"
        lines.append(f"{scheme} | {least[scheme]:.6f} | {shares}")
        if scheme == "w8a8":
            show(encoder, sentences, rows)
    head = "least cosine with PyTorch | mean | nearest of the same subject"
    print(f"\n{len(sentences)} sentences | {head}", *lines, sep="\n")
    return 0 if least["f32"] >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
