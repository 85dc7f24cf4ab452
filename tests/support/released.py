"""Tiny checkpoints in the layout of the releases with a resampler, and their answers in torch.

The language model is written and run by transformers' own class, the vision tower and the resampler
by the plain reference (torch_minicpmv.py). Prompts are rendered here, as text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_minicpmv as expected
from greedy import QUESTION, ask, check_greedy, pictures
from random_checkpoint import _resampler, _vision
from random_release import CHATML
from safetensors.torch import save_file
from tokenizers import Tokenizer as Library
from vocabularies import newline_words_json

from handglass.compiler.models.config import ResamplerConfig, VisionConfig

SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<image>", "</image>", "<slice>", "</slice>"),
    *("<image_id>", "</image_id>", "<unk>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
VISION: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 980,
    "patch_size": 14,
    "model_type": "siglip_vision_model",
}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
QUERIES = 8
LONG = [1.0 + n / 3 for n in range(24)]
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "2.5": ("Llama", {"rope_theta": 5e5}),
    "2.6": ("Qwen2", {"rope_theta": 1e6, "use_sliding_window": False}),
    "4.0": (
        "Llama",
        {
            "head_dim": 48,
            "rope_scaling": {
                "rope_type": "longrope",
                "factor": 1.0,
                "original_max_position_embeddings": 2050,
                "short_factor": LONG,
                "long_factor": LONG,
            },
        },
    ),
    "4.5": ("Qwen3", {"head_dim": 48, "rope_theta": 1e6}),
}
HELPFUL = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
OPENED = {"2.6": "", "4.0": "", "4.5": "<think>\n\n</think>\n\n"}


@dataclass(frozen=True)
class Release:
    """The reference of a checkpoint."""

    version: str
    model: Any
    weights: expected.Weights
    library: Library

    def check(self, model: Any, name: str, max_tokens: int = 64) -> None:
        """Ask `model` about the pictures `name`: prompt, logits and greedy tokens."""
        shown = pictures(name)
        tiles = [model.prepare(picture).tiles for picture in shown]
        answer, logits = ask(model, shown, max_tokens)
        blocks = [self.block(n, [t.role for t in ts]) for n, ts in enumerate(tiles)]
        ids = self.library.encode(self.prompt(QUESTION, blocks)).ids
        width = TEXT["hidden_size"]
        seen = [row for ts in tiles for row in self.picture_rows(ts)]
        rows = torch.cat([torch.zeros(0, width), *seen])
        truth = self.logits([*ids, *answer.tokens], rows, len(ids))
        check_greedy(answer, len(ids), truth, max_tokens, logits)

    def prompt(self, question: str, blocks: Sequence[str]) -> str:
        """The text of one turn; `blocks` are the pictures' markers, with <unk> per row."""
        text = "\n".join([*blocks, question])
        if self.version == "2.5":
            header = "<|start_header_id|>{}<|end_header_id|>\n\n"
            user, assistant = header.format("user"), header.format("assistant")
            return f"<|begin_of_text|>{user}{text}<|eot_id|>{assistant}"
        system = HELPFUL if self.version == "2.6" else ""
        turn = f"{system}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return turn + OPENED[self.version]

    def block(self, number: int | None, roles: Sequence[str]) -> str:
        """The markers of one picture, from the roles of its tiles; a frame has no number."""
        rows = "<unk>" * QUERIES
        whole = f"<image>{rows}</image>"
        ends = ["\n" if role == "row_end" else "" for role in roles[1:]]
        if self.version == "2.5":
            slices = "".join(f"{whole}{end}" for end in ends)
            return f"{whole}<slice>{slices}</slice>" if slices else whole
        slices = "".join(f"<slice>{rows}</slice>{end}" for end in ends)
        counted = "" if number is None else f"<image_id>{number}</image_id>"
        return f"{counted}{whole}{slices}"

    def picture_rows(self, tiles: Sequence[Any]) -> list[torch.Tensor]:
        """Expected rows of each tile of a picture."""
        if self.version != "2.5":
            return [self.tile_rows(tile) for tile in tiles]
        longest = max(tile.height * tile.width for tile in tiles)
        bridge = expected.part(self.weights, "resampler.")
        return [
            expected.resample(
                bridge, self._in_padded_row(tile, longest), tile.height, tile.width, 1
            )
            for tile in tiles
        ]

    def _in_padded_row(self, tile: Any, longest: int) -> torch.Tensor:
        """The features of a tile whose patches, and patches of zeros, the tower takes for a row of
        `longest`."""
        count = tile.height * tile.width
        strip = torch.zeros(3, 14, 14 * longest)
        strip[:, :, : 14 * count] = torch.from_numpy(tile.strip)[:, :, : 14 * count]
        ids, vpm = expected.position_ids(1, longest, 70), expected.part(self.weights, "vpm.")
        return expected.encode_vision(vpm, VISION, strip, ids)[:count]

    def tile_rows(self, *tiles: Any, times: Sequence[int] = (-1,)) -> torch.Tensor:
        """Expected rows of a tile, or of the frames of a group together."""
        bridge = expected.part(self.weights, "resampler.")
        features = [self._features(tile) for tile in tiles]
        grids = [(tile.height, tile.width) for tile in tiles]
        return expected.resample_frames(bridge, features, grids, list(times), 1)

    def _features(self, tile: Any) -> torch.Tensor:
        ids = expected.position_ids(tile.height, tile.width, 70)
        vpm, strip = expected.part(self.weights, "vpm."), torch.from_numpy(tile.strip)
        return expected.encode_vision(vpm, VISION, strip, ids)

    def logits(self, ids: Sequence[int], rows: torch.Tensor, after: int) -> np.ndarray:
        """Logits from position `after` - 1 on; `rows` replace the <unk> tokens."""
        with torch.no_grad():
            x = self.model.get_input_embeddings()(torch.tensor(ids))
            prompt = torch.tensor(ids[:after])
            x[:after][prompt == self.library.token_to_id("<unk>")] = rows
            out: np.ndarray = self.model(inputs_embeds=x[None]).logits[0, after - 1 :].numpy()
        return out


def write_release(folder: Path, version: str, architecture: str = "MiniCPMV") -> Release:
    """Write a checkpoint with random weights."""
    import transformers

    folder.mkdir(parents=True)
    data = newline_words_json(SPECIAL)
    library = Library.from_str(data.decode())
    name, options = CLASSES[version]
    text = TEXT | options | {"vocab_size": library.get_vocab_size()}
    torch.manual_seed(len(version))
    kind = getattr(transformers, f"{name}ForCausalLM")
    model = kind(getattr(transformers, f"{name}Config")(**text)).eval()
    _draw(model)
    weights = {f"llm.{k}": v.detach().clone() for k, v in model.state_dict().items()}
    weights |= _eyes(np.random.default_rng(3))
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_bytes(data)
    if version == "4.0":
        (folder / "chat_template.jinja").write_text(CHATML)
    config = text | {
        "architectures": [architecture],
        "version": version,
        "model_type": architecture.lower(),
        "vision_config": VISION,
        "query_num": QUERIES,
        "image_size": 448,
        "slice_config": {"max_slice_nums": 9, "patch_size": 14, "scale_resolution": 448},
        "slice_mode": True,
        "batch_vision_input": True,
        "drop_vision_last_layer": False,
        "auto_map": {"AutoModel": "modeling_minicpmv.MiniCPMV"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Release(version, model, weights, library)


def _draw(model: Any) -> None:
    """Weights of a size that keeps rows alive; norms around one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1, 0.2)
            elif parameter.dim() > 1 and "embed" not in name:
                parameter.normal_(0, 1.2 / parameter.shape[1] ** 0.5)
            else:
                parameter.normal_(0, 0.3)


def _eyes(random: np.random.Generator) -> expected.Weights:
    vision = {k: v for k, v in VISION.items() if k != "model_type"}
    sight = VisionConfig(**vision, layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh")
    bridge = ResamplerConfig(QUERIES, TEXT["hidden_size"], VISION["hidden_size"], 1)
    return {
        d.name: torch.from_numpy(
            (d.mean + d.std * random.standard_normal(d.shape)).astype(np.float32)
        )
        for d in [*_vision(sight), *_resampler(bridge)]
    }
