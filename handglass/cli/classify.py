"""`handglass classify`: which of several labels fits a picture: texts that are given, by a dual
encoder, or those that the head of a model knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BundleArgument, Device, Json, Threads
from .output import columns, print_json

if TYPE_CHECKING:
    import numpy as np

    from handglass.runtime.search.encoder import Encoder

SLOT = "{}"
"""Where a template has the label."""
OWN_SHOWN = 5


def classify(
    bundle: BundleArgument,
    image: Annotated[
        list[Path], typer.Option(metavar="PICTURE", help="A picture to classify; repeatable.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A label that may fit; repeatable.  [default: the model's own labels]",
        ),
    ] = None,
    template: Annotated[
        str,
        typer.Option(metavar="TEXT", help='Text around each label, such as "a photo of {}".'),
    ] = SLOT,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-k",
            min=1,
            metavar="N",
            help="How many labels to name.  [default: all that are given, 5 of the model's own]",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Say how well labels fit pictures."""
    from handglass.runtime.prompt.preprocess import open_picture
    from handglass.runtime.search.encoder import Encoder

    for path in image:
        open_picture(path)  # before a large model is loaded
    encoder = Encoder.load(bundle, threads, device)
    names, scores_of = scoring(encoder, label or [], template)
    results: list[dict[str, Any]] = []
    for path in image:
        scores = scores_of(path)
        chances = encoder.probabilities(scores)
        rows: list[dict[str, Any]] = [
            {"label": name, "score": float(score), "probability": float(chance)}
            for name, score, chance in zip(names, scores, chances, strict=True)
        ]
        rows.sort(key=lambda row: -row["score"])
        shown = rows[: count or (len(rows) if label else OWN_SHOWN)]
        results.append({"picture": str(path), "labels": shown})
    if json:
        print_json({"exclusive": encoder.is_exclusive, "pictures": results})
    else:
        print("\n".join(map(as_text, results)))


def scoring(
    encoder: Encoder, labels: Sequence[str], template: str
) -> tuple[Sequence[str], Callable[[Path], np.ndarray]]:
    """The labels, and a function from a picture to the score of each. Raises UsageError."""
    from handglass.errors import UsageError

    if labels:
        texts = encoder.labels(labels, template)
        return labels, lambda path: encoder.scores(encoder.picture(path), texts)
    if not encoder.own_labels:
        raise UsageError("this model has no labels of its own: give --label")
    if template != SLOT:
        raise UsageError("--template goes with --label")
    return encoder.own_labels, encoder.own_scores


def as_text(result: dict[str, Any]) -> str:
    rows = [(f"{row['probability']:7.1%}", row["label"]) for row in result["labels"]]
    return f"{columns([(result['picture'],)])}\n{columns(rows, '  ')}"
