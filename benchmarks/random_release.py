"""Writes a checkpoint of any supported config.json with random weights.

    python benchmarks/random_release.py FOLDER VERSION [--layers N]

The tensors are those that the model reads. Weights take the values that keep rows of about unit
size: norms around one, matrices scaled by the root of their inputs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from random_checkpoint import Draw, write_tensors
from release_configs import CONFIGS, with_layers

from handglass.compiler.checkpoints.template_file import TemplateFile
from handglass.compiler.models import find_family
from handglass.compiler.models.matching import tensors_of
from handglass.compiler.models.storage import choose_storage
from handglass.schedules.select import ANY_CPU

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|im_start|>assistant\n' }}{% endif %}"""
"""The chat template of a release that is not compiled without one (4.0)."""
CENTRED = "language_model."
"""Norms under this prefix store their weight minus one, but for those of linear attention."""


class _Head:
    """Replaces a checkpoint: a stored head is always written if the embedding is not tied."""

    def __contains__(self, name: str) -> bool:
        return False

    def lm_head(self, tied: bool, head: str = "llm.lm_head.weight", embedding: str = "") -> str:
        return (embedding or "llm.model.embed_tokens.weight") if tied else head


def write_release(
    folder: Path,
    config: dict[str, Any],
    shard_bytes: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write config.json, tokenizer.json and bfloat16 weights."""
    family = find_family(config)
    model = family.configure(dict(config))
    storage = choose_storage(model.language, ANY_CPU, "f32", None, None, None)
    shapes = tensors_of(family.build(_Head(), model, storage))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    template = CHATML if config.get("version") == "4.0" else ""
    if template:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    reserved = family.prompt(model, TemplateFile(template)).reserved
    thoughts = ("<think>", "</think>")
    (folder / "tokenizer.json").write_text(_tokenizer((*reserved, *thoughts)), "utf-8")
    write_tensors(folder, list(_draws(shapes)), "bfloat16", shard_bytes, 0, progress)
    return folder


def _draws(shapes: Any) -> Iterator[Draw]:
    for name, shape in shapes.items():
        inputs = prod(shape[1:]) if len(shape) > 1 else 1
        if "norm" in name and name.endswith("weight"):
            centred = CENTRED in name and "linear_attn" not in name
            yield Draw(name, shape, 0.0 if centred else 1.0, 0.1)
        elif len(shape) == 1 or "embed" in name:
            yield Draw(name, shape, 0.0, 0.1 if len(shape) == 1 else 1.0)
        else:
            yield Draw(name, shape, 0.0, inputs**-0.5)


def _tokenizer(special: tuple[str, ...]) -> str:
    """One token per byte, then the special ones; the rest of the vocabulary has no text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(dict.fromkeys(special)))
    return str(tokenizer.to_str())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a random checkpoint of a release.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("version", choices=sorted(CONFIGS))
    parser.add_argument("--layers", type=int)
    options = parser.parse_args()
    config = with_layers(CONFIGS[options.version], options.layers)
    write_release(options.folder, config, 500_000_000, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
