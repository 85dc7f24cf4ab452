"""Asks several questions in a row, and prints each answer while it is written.

python stream_an_answer.py BUNDLE QUESTION...
"""

import sys

import handglass


def main(bundle: str, *questions: str) -> None:
    model = handglass.load(bundle)
    turns: list[dict[str, str]] = []
    for question in questions:
        turns.append({"role": "user", "content": question})
        stream = model.chat(turns, stream=True, max_tokens=64)
        for piece in stream:
            print(piece, end="", flush=True)
        print()
        turns.append({"role": "assistant", "content": stream.finish().text})


if __name__ == "__main__":
    main(*sys.argv[1:])
