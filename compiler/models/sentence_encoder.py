"""Encoders of texts: BERT as sentence-transformers uses it (MiniLM, e5, bge), a text as one row.

Sentence-BERT (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084) averages the rows of all
tokens, or takes the first one. A text is encoded on its own, so that none needs padding. BERT's own
pooler is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    COSINE,
    FunctionEntry,
    PromptEntry,
    StateTensor,
    TensorEntry,
    WorkEntry,
)

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.fields import Fields
from ..checkpoints.sentence_files import MEAN, MODULES, is_bare, sentence_files
from ..checkpoints.template_file import TemplateFile
from ..schemes.scheme import Scheme
from .architecture import architecture_of
from .config import MAX_LAYERS
from .dual_config import MAX_POSITIONS, TextTowerConfig
from .dual_towers import embedded
from .family import Family, HasHead, Score
from .layers import LayerNorm
from .leaves import Rows, Stored
from .network import MODES
from .row_pooling import FIRST, mean_row, row_of
from .storage import Storage
from .tower_names import BERT
from .vision import GELU, PostNormLayer
from .weights import Panels
from .work import encoder_flops

ARCHITECTURE, EMBEDDINGS = "BertModel", "embeddings"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SentenceConfig:
    """One tower."""

    architecture: str
    text: TextTowerConfig
    types: int
    """Rows of the table of token types, of which the first is used."""

    @property
    def language(self) -> TextTowerConfig:
        """The tower, under the name that the part has in every family."""
        return self.text


def configure(config: dict[str, Any]) -> SentenceConfig:
    """Parse config.json. Raises InputError for an invalid or unsupported setting."""
    fields = Fields(config, "config.json")
    for key, only in (("position_embedding_type", "absolute"), ("is_decoder", False)):
        fields.expect(key, only)
    fields.expect("add_cross_attention", False)
    fields.get("tie_word_embeddings")  # of a head that it does not have
    act = fields.get("hidden_act") or "gelu"
    if act not in GELU:
        raise InputError(f"config.json: hidden_act is {act!r:.100}; known: {', '.join(GELU)}")
    text = TextTowerConfig(
        hidden_size=fields.integer("hidden_size", 768),
        intermediate_size=fields.integer("intermediate_size", 3072),
        num_hidden_layers=fields.integer("num_hidden_layers", 12, maximum=MAX_LAYERS),
        num_attention_heads=fields.integer("num_attention_heads", 12),
        layer_norm_eps=fields.number("layer_norm_eps", 1e-12),
        hidden_act=act,
        max_position_embeddings=fields.integer(
            "max_position_embeddings", 512, minimum=3, maximum=MAX_POSITIONS
        ),
        vocab_size=fields.integer("vocab_size", 30522),
        names=BERT,
    )
    heads = text.num_attention_heads
    fields.multiple("hidden_size", text.hidden_size, "num_attention_heads", heads)
    return SentenceConfig(ARCHITECTURE, text, fields.integer("type_vocab_size", 2))


class SentenceTower(nn.Module):
    """ids (s,) -> (s, hidden_size)."""

    def __init__(self, config: SentenceConfig, scheme: Scheme) -> None:
        super().__init__()
        text, d = config.text, config.text.hidden_size
        table = Rows(f"{EMBEDDINGS}.word_embeddings.weight", (text.vocab_size, d))
        self.word_embeddings = Panels(scheme, [table])
        places = Rows(f"{text.names.positions}.weight", (text.max_position_embeddings, d))
        types = Rows(f"{EMBEDDINGS}.token_type_embeddings.weight", (config.types, d))

        def read(checkpoint: Checkpoint) -> np.ndarray:
            return np.asarray(places.read(checkpoint) + types.read(checkpoint)[:1])

        self.positions = Stored(places.shape, read, [places, types])
        self.norm = LayerNorm(f"{EMBEDDINGS}.LayerNorm", d, text.layer_norm_eps)
        self.layers = nn.ModuleList(
            [
                PostNormLayer(text, scheme, f"{text.names.layers}.{number}")
                for number in range(text.num_hidden_layers)
            ]
        )
        self.width = d

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        x = embedded(ids, self.word_embeddings, self.positions, self.width)
        x = self.norm(x).computed()
        for layer in self.layers:
            x = layer(x)
        return x


class SentenceEncoder(nn.Module):
    """Exports `encode_text`."""

    def __init__(self, config: SentenceConfig, storage: Storage, pooling: str) -> None:
        super().__init__()
        self.config, self.storage, self.pooling = config, storage, pooling
        self.tower = SentenceTower(config, storage.language)

    def encode_text(self, ids: nn.Tensor) -> nn.Tensor:
        x = self.tower(ids)
        return mean_row(x) if self.pooling == MEAN else row_of(x, FIRST).computed()

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module; parameters in the order of the `params` tuple."""
        given = {"ids": spec.Tensor(["s"], "int32")} | MODES
        made = {"encode_text": spec.MethodSpec.from_raw(given, self.encode_text)}
        return self.export_tvm(spec=made)

    def functions(self) -> dict[str, FunctionEntry]:
        row = f"(1, {self.config.text.hidden_size}) float32"
        return {"encode_text": FunctionEntry(("ids (s,) int32", "params"), row)}

    def state(self) -> tuple[StateTensor, ...]:
        """There is none."""
        return ()

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        text = self.config.text
        flops = encoder_flops(text, text.max_position_embeddings)
        return {"encode_text": WorkEntry(flops=flops)}


def build(checkpoint: HasHead, config: SentenceConfig, storage: Storage) -> SentenceEncoder:
    assert isinstance(checkpoint, Checkpoint)
    return SentenceEncoder(config, storage, sentence_files(checkpoint.folder).pooling)


def prompt_entry(config: SentenceConfig, template: TemplateFile) -> PromptEntry:
    """It answers no questions."""
    return PromptEntry(bos="", roles={}, tiles={}, reserved=(), stop=())


def score(checkpoint: Checkpoint, config: SentenceConfig) -> Score:
    """Raises InputError for files of sentence-transformers that are not supported."""
    files = sentence_files(checkpoint.folder)
    if is_bare(checkpoint.folder):
        log.warning("%s: no %s; the rows of all tokens are averaged", checkpoint.folder, MODULES)
    width = config.text.hidden_size
    return Score(kind=COSINE, width=width, length=files.length, lowers=files.lowers)


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) == ARCHITECTURE


FAMILY = Family(
    name="sentence encoder",
    matches=matches,
    configure=configure,
    build=build,
    prompt=prompt_entry,
    title=lambda config: "BERT",
    ignored=lambda config: ("pooler.",),
    score=score,
    reference="handglass.compiler.parity.reference.sentence_encoder",
)
