"""The words of the demo model in two languages: colors, shapes, sizes, corners and numbers.

Every sentence is built from these tables, so a color or shape added here appears in the drawings,
the questions, the answers and the tokenizer.
"""

from __future__ import annotations

import random

LANGUAGES = ("en", "zh")

# name -> (Chinese name, a soft and a plain RGB value); drawings interpolate between the two
COLOURS: dict[str, tuple[str, tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ("红色", (214, 40, 48), (255, 0, 0)),
    "orange": ("橙色", (240, 134, 30), (255, 165, 0)),
    "yellow": ("黄色", (242, 208, 40), (255, 255, 0)),
    "green": ("绿色", (46, 160, 70), (0, 128, 0)),
    "blue": ("蓝色", (40, 90, 215), (0, 0, 255)),
    "purple": ("紫色", (130, 60, 180), (128, 0, 128)),
    "pink": ("粉色", (245, 130, 185), (255, 182, 193)),
    "black": ("黑色", (40, 40, 44), (0, 0, 0)),
}

KINDS: dict[str, str] = {
    "circle": "圆形",
    "square": "方块",
    "triangle": "三角形",
    "star": "星形",
    "ring": "圆环",
    "cross": "十字",
}

SIZES: dict[str, str] = {"big": "大", "small": "小"}

# (right half, lower half) -> its name
CORNERS: dict[tuple[bool, bool], dict[str, str]] = {
    (False, False): {"en": "top left", "zh": "左上角"},
    (True, False): {"en": "top right", "zh": "右上角"},
    (False, True): {"en": "bottom left", "zh": "左下角"},
    (True, True): {"en": "bottom right", "zh": "右下角"},
}


def colour_word(colour: str, lang: str) -> str:
    return colour if lang == "en" else COLOURS[colour][0]


def kind_word(kind: str, lang: str) -> str:
    return kind if lang == "en" else KINDS[kind]


def size_word(big: bool, lang: str) -> str:
    name = "big" if big else "small"
    return name if lang == "en" else SIZES[name]


def with_article(noun: str, lang: str) -> str:
    """`a red ring`, `an orange ring`, `一个红色圆环`."""
    if lang == "zh":
        return f"一个{noun}"
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def listed(nouns: list[str], lang: str) -> str:
    """`a`, `a and b`, `a, b and c`; the Chinese comma for lists is `、`."""
    if len(nouns) == 1:
        return nouns[0]
    comma, last = (", ", " and ") if lang == "en" else ("、", "和")
    return comma.join(nouns[:-1]) + last + nouns[-1]


def sentence(text: str, lang: str) -> str:
    """Capitalize the first letter and add a full stop."""
    return text + "。" if lang == "zh" else text[0].upper() + text[1:] + "."


# --- phrases shared by several questions ---

Asked = tuple[str, str]  # question, answer


def pick(
    rng: random.Random, lang: str, english: list[str], chinese: list[str], /, **words: str
) -> str:
    """Fill in one of the wordings."""
    return rng.choice(english if lang == "en" else chinese).format(**words)


def there_are(number: int, lang: str) -> str:
    if lang == "zh":
        return f"有{number}个。"
    return f"There is {number}." if number == 1 else f"There are {number}."
