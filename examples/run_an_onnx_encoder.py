"""Compile an ONNX file, say what was recognised in it, and run it on random arrays.

python examples/run_an_onnx_encoder.py encoder.onnx BUNDLE [x=1,3,224,224]
"""

import sys

import numpy as np

from handglass.compiler.build_graph import compile_graph
from handglass.runtime.engine.graph import GraphSession


def main(model: str, bundle: str, *shapes: str) -> None:
    report = compile_graph(model, bundle, shapes=shapes, quantization="w8a8", overwrite=True)
    print(f"{report.graph['share']:.0%} recognised: {dict(report.graph['recognised'])}")
    session = GraphSession.load(bundle)
    random = np.random.default_rng(0)
    inputs = {e.name: random.random(e.shape).astype(e.dtype) for e in session.graph.inputs}
    for name, array in session.apply(inputs).items():
        print(name, array.shape, f"{array.mean():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
