"""Encoders of ten public architectures with random weights, and both exporters of torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENS = 64
EXPORTERS = {"dynamo": True, "TorchScript": False}
"""Name -> the argument `dynamo` of torch.onnx.export."""
Axes = Mapping[str, Mapping[int, str]]
"""Input -> axis -> the name of a size that may vary."""


@dataclass(frozen=True)
class Size:
    """Hidden size, layers, heads, side of a picture, side of a patch."""

    hidden: int
    layers: int
    heads: int
    picture: int
    patch: int


SIZES = {"base": Size(384, 4, 6, 224, 16), "small": Size(64, 1, 2, 32, 8)}


def models(size: Size) -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Name -> a function that makes (module, arguments by name)."""
    import transformers as t

    sizes = {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.hidden,
    }
    sees = sizes | {"image_size": size.picture, "patch_size": size.patch}
    reads = sizes | {"vocab_size": 1000}
    depths = [size.layers // 2 or 1] * 4
    widths = [size.hidden // 8 * 2**i for i in range(4)]
    return {
        "ViT": lambda: _picture(t.ViTModel(t.ViTConfig(**sees), add_pooling_layer=False), size),
        "DeiT": lambda: _picture(t.DeiTModel(t.DeiTConfig(**sees), add_pooling_layer=False), size),
        "DINOv2": lambda: _picture(t.Dinov2Model(t.Dinov2Config(**sees)), size),
        "CLIP vision": lambda: _picture(t.CLIPVisionModel(t.CLIPVisionConfig(**sees)), size),
        "SigLIP vision": lambda: _picture(t.SiglipVisionModel(t.SiglipVisionConfig(**sees)), size),
        "BERT": lambda: _text(t.BertModel(t.BertConfig(**reads), add_pooling_layer=False)),
        "DistilBERT": lambda: _text(t.DistilBertModel(_distil(t, size))),
        "RoBERTa": lambda: _text(t.RobertaModel(t.RobertaConfig(**reads), add_pooling_layer=False)),
        "ConvNeXt": lambda: _picture(
            t.ConvNextModel(t.ConvNextConfig(hidden_sizes=widths, depths=depths)), size
        ),
        "ResNet": lambda: _picture(
            t.ResNetModel(
                t.ResNetConfig(
                    embedding_size=widths[0], hidden_sizes=[4 * n for n in widths], depths=depths
                )
            ),
            size,
        ),
    }


def _distil(t: Any, size: Size) -> Any:
    return t.DistilBertConfig(
        vocab_size=1000,
        dim=size.hidden,
        n_layers=size.layers,
        n_heads=size.heads,
        hidden_dim=4 * size.hidden,
    )


def _picture(module: Any, size: Size) -> tuple[Any, dict[str, Any]]:
    import torch

    return module, {"pixel_values": torch.randn(1, 3, size.picture, size.picture)}


def _text(module: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    ids = torch.randint(5, 1000, (1, TOKENS))
    return module, {"input_ids": ids, "attention_mask": torch.ones(1, TOKENS, dtype=torch.int64)}


def export(
    module: Any,
    given: Mapping[str, Any],
    path: Path,
    is_new: bool,
    opset: int = 18,
    axes: Axes | None = None,
) -> Path:
    """Write the first output of a module as ONNX, with the new (dynamo) or the old exporter."""
    import torch

    class First(torch.nn.Module):
        """Arguments by position, because exporters name inputs after them."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module.eval()

        def forward(self, *values: Any) -> Any:
            return self.inner(**dict(zip(given, values, strict=True)))[0]

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            First(),
            tuple(given.values()),
            str(path),
            dynamo=is_new,
            opset_version=opset,
            input_names=list(given),
            output_names=["output"],
            verbose=False,
            **(_varying(axes, list(given), is_new) if axes else {}),
        )
    return path


def _varying(axes: Axes, names: list[str], is_new: bool) -> dict[str, Any]:
    """The argument with which an exporter takes the names of sizes."""
    if not is_new:
        return {"dynamic_axes": axes}
    from torch.export import Dim

    known = {name: Dim(name) for sizes in axes.values() for name in sizes.values()}
    shapes = [{axis: known[n] for axis, n in axes.get(name, {}).items()} for name in names]
    return {"dynamic_shapes": {"values": tuple(shapes)}}
