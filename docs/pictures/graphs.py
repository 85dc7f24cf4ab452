"""The picture of imported graphs: what becomes of the nodes of an ONNX file."""

from __future__ import annotations

from sheet import Sheet

STEPS = (
    ("encoder.onnx", "read as data,", "every number bounded"),
    ("shapes folded", "sizes are numbers;", "TVM imports the rest"),
    ("recognised", "patterns, and where", "the elements go"),
    ("bundle", "encode(inputs)", "-> outputs, by name"),
)
OURS = (
    ("MatMul, Add", "matmul with bias", "weights in a scheme"),
    ("Erf, Tanh, Sigmoid written out", "GELU", "at the end of the matmul"),
    ("ReduceMean, Sub, Pow, Sqrt, Div", "layer norm", "quantizes rows for the next"),
    ("Reshape, Transpose, MatMul, Softmax", "attention", "q, k, v in one matmul"),
    ("Conv with stride = kernel", "patches, matmul", "one row per patch"),
    ("all others", "default schedule", "parallel, vectors"),
)


def onnx() -> Sheet:
    """From the nodes of exporters to our operators."""
    sheet = Sheet("What becomes of an exported graph", 1000)
    for number, (title, *lines) in enumerate(STEPS):
        x = 20 + number * 250
        tone = "blue" if number == 0 else "green" if number == 3 else "plain"
        sheet.box(x, 56, 210, title, *lines, height=72, tone=tone)
        if number:
            sheet.arrow((x - 40, 92), (x, 92))
    for number, (nodes, operator, note) in enumerate(OURS):
        y = 160 + number * 60
        is_last = number == len(OURS) - 1
        sheet.box(20, y, 390, nodes, height=44)
        sheet.arrow((410, y + 22), (490, y + 22))
        tone = "dashed" if is_last else "orange"
        sheet.box(490, y, 490, operator, note, height=50, tone=tone)
    return sheet
