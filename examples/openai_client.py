"""Asks `handglass serve` by OpenAI's client: python openai_client.py URL [PICTURE]"""

import base64
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI


def main(url: str, picture: str = "") -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    model = client.models.list().data[0].id
    question = "What is this picture?" if picture else "Who are you?"
    content: list[Any] = [{"type": "text", "text": question}]
    if picture:
        data = base64.b64encode(Path(picture).read_bytes()).decode()
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        content.insert(0, shown)
    messages: list[Any] = [{"role": "user", "content": content}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=64)
    print(answer.choices[0].message.content)


if __name__ == "__main__":
    main(*sys.argv[1:])
