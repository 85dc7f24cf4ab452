"""Asks two bundles the same question: python compare_two_bundles.py A B QUESTION [PICTURE...]

`handglass bench A --against B` compares their speed properly, in turns.
"""

import sys

import handglass


def main(first: str, second: str, question: str, *pictures: str) -> None:
    for bundle in (first, second):
        model = handglass.load(bundle)
        answer = model.chat(question, images=list(pictures), max_tokens=64)
        took = answer.timings
        print(f"{bundle}: {answer.text}")
        print(f"  first token after {took.ttft_ms:.0f} ms, then {took.decode_tok_s:.0f} per second")


if __name__ == "__main__":
    main(*sys.argv[1:])
