"""Questions without a picture: greetings, sums of two digits, and the demo's words translated."""

from __future__ import annotations

import random

from words import COLOURS, KINDS, Asked, pick

CHAT: dict[str, list[Asked]] = {
    "en": [
        ("Hello!", "Hello! Show me a picture."),
        ("Hi!", "Hi! Show me a picture."),
        ("Good morning!", "Good morning!"),
        ("How are you?", "I am fine, thank you."),
        ("Who are you?", "I am a tiny demo model."),
        ("What can you do?", "I can talk about pictures of simple shapes."),
        ("Which colours do you know?", "Red, orange, yellow, green, blue, purple, pink and black."),
        ("Which shapes do you know?", "Circle, square, triangle, star, ring and cross."),
        ("Thank you!", "You are welcome."),
        ("Goodbye!", "Goodbye!"),
    ],
    "zh": [
        ("你好！", "你好！给我看一张图片吧。"),
        ("早上好！", "早上好！"),
        ("你好吗？", "我很好，谢谢。"),
        ("你是谁？", "我是一个小小的演示模型。"),
        ("你会做什么？", "我可以谈论简单图形的图片。"),
        ("你认识哪些颜色？", "红色、橙色、黄色、绿色、蓝色、紫色、粉色和黑色。"),
        ("你认识哪些形状？", "圆形、方块、三角形、星形、圆环和十字。"),
        ("谢谢！", "不客气。"),
        ("再见！", "再见！"),
    ],
}


def chat(rng: random.Random, lang: str) -> Asked:
    return rng.choice(CHAT[lang])


def add(rng: random.Random, lang: str) -> Asked:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    asked = pick(
        rng,
        lang,
        ["What is {a} plus {b}?", "{a} + {b} = ?"],
        ["{a}加{b}等于几？", "{a}加{b}是多少？"],
        a=str(a),
        b=str(b),
    )
    return asked, f"{a + b}." if lang == "en" else f"{a + b}。"


def translate(rng: random.Random, lang: str) -> Asked:
    words = {name: row[0] for name, row in COLOURS.items()} | KINDS
    english, chinese = rng.choice(list(words.items()))
    if lang == "en":
        return f"What is {english} in Chinese?", f"{chinese}。"
    return f"{chinese}用英语怎么说？", f"{english[0].upper()}{english[1:]}."
