"""Asks a bundle about a picture: python ask_about_a_picture.py BUNDLE PICTURE QUESTION"""

import sys

import handglass


def main(bundle: str, picture: str, question: str) -> None:
    model = handglass.load(bundle)
    answer = model.chat(question, images=[picture], max_tokens=64)
    print(answer.text)
    print(f"{answer.timings.decode_tok_s:.0f} tokens per second", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
