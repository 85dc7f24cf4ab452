"""Sorts the lines of a file by how nearly they mean the same as a text.

python nearest_texts.py BUNDLE LINES.txt TEXT

BUNDLE is made from an encoder of texts, such as all-MiniLM-L6-v2: handglass compile -m FOLDER.
"""

import sys
from pathlib import Path

import numpy as np

from handglass.runtime.search.encoder import Encoder


def main(bundle: str, file: str, text: str) -> None:
    encoder = Encoder.load(bundle)
    lines = Path(file).read_text("utf-8").splitlines()
    rows = np.stack([encoder.text(line) for line in lines])
    cosines = rows @ encoder.text(text)
    for number in np.argsort(-cosines):
        print(f"{cosines[number]:.3f}  {lines[number]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
