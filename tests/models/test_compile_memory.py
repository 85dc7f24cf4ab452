"""Compiling streams the weights: its peak memory does not grow with the number of layers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_text_only import KINDS, tokenizer, write_texts

pytestmark = [pytest.mark.compiler, pytest.mark.slow, pytest.mark.large]

FEW, MANY = 2, 22
D, F = 512, 2048
LAYER_BYTES = 4 * (4 * D * D + 3 * D * F)
SLACK = 0.25
"""Of the weights of the additional layers: what their code and descriptions may take."""
PROGRAM = """
import json, re, sys
from handglass.compiler.build import compile_model
def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
found = []
for folder in sys.argv[1:]:
    compile_model(folder, folder + "-bundle", quantization="f32", context=64, use_records=False)
    found.append(peak())
print(json.dumps(found))
"""


def write(folder: Path, layers: int) -> Path:
    """A Llama of equal layers, in one float32 file."""
    folder.mkdir()
    data, library = tokenizer()
    vocabulary = library.get_vocab_size()
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": vocabulary,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_texts(folder, data, KINDS[1])
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    square, wide, tall = draw(D, D), draw(F, D), draw(D, F)
    shapes = {f"self_attn.{name}_proj": square for name in "qkvo"}
    shapes |= {"mlp.gate_proj": wide, "mlp.up_proj": wide, "mlp.down_proj": tall}
    shapes |= {"input_layernorm": draw(D), "post_attention_layernorm": draw(D)}
    tensors = {
        f"model.layers.{n}.{name}.weight": array
        for n in range(layers)
        for name, array in shapes.items()
    }
    tensors |= {"model.embed_tokens.weight": draw(vocabulary, D), "model.norm.weight": draw(D)}
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_does_not_grow_with_the_layers(tmp_path: Path) -> None:
    """Neither copies of the weights nor pages of the file stay in memory."""
    folders = [write(tmp_path / str(layers), layers) for layers in (FEW, MANY)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, folders)],
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = json.loads(done.stdout.splitlines()[-1])
    assert many - few < SLACK * (MANY - FEW) * LAYER_BYTES
