"""Small tokenizers of every kind, trained or assembled in a moment, for tests of text."""

import io
import json
from functools import lru_cache
from typing import Any

CORPUS = [
    "What is this picture? It is a red circle.",
    "你好 这是什么图片 红色的圆",
    "How many shapes are there? There are 3, and 12 <b>more</b>.",
    "hello  world\n\n  x",
]
SPECIAL = ["<s>", "</s>", "<unk>", "<image>", "</image>"]
TAGS = ("<用户>", "<AI>")
MARKERS = (*SPECIAL, *TAGS)
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@lru_cache
def sentencepiece_model(
    user_defined: tuple[str, ...] = (*TAGS, "<image>", "</image>", "\n"), **options: Any
) -> bytes:
    """MiniCPM-V's settings: BPE, byte fallback, split digits, no dummy prefix or normalization."""
    import sentencepiece

    out = io.BytesIO()
    settings = {
        "vocab_size": 420,
        "model_type": "bpe",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "split_digits": True,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "hard_vocab_limit": False,
        "minloglevel": 3,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=out,
        user_defined_symbols=list(user_defined),
        **(settings | options),
    )
    return out.getvalue()


@lru_cache
def byte_level_json(special: tuple[str, ...] = MARKERS) -> bytes:
    """Byte-level BPE as in Llama 3 and Qwen, with special tokens after the vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens(["<think>"])  # added, but not special
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    return tokenizer.to_str().encode()


@lru_cache
def newline_words_json(special: tuple[str, ...]) -> bytes:
    """The same with the words of Llama 3 and Qwen: newlines are words of their own."""
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    tokenizer = Tokenizer.from_str(byte_level_json(special).decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    return tokenizer.to_str().encode()


@lru_cache
def byte_fallback_json() -> bytes:
    """A Llama-style tokenizer.json: pieces with U+2581, and one token per byte as fallback."""
    words = ["\u2581", "\u2581is", "W", "h", "a", "t", "i", "s", "?", "at", "Wh", "What"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words]
    names += ["is", "<image>", "</image>"]
    merges = ["W h", "a t", "Wh at", "i s", "\u2581 is"]
    vocab = {name: i for i, name in enumerate(names)}
    added = [
        {"id": vocab[c], "content": c, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for c in SPECIAL
    ]  # fmt: skip
    table = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": merges,
        },
    }
    return json.dumps(table).encode()


# MiniCPM-V 4.6's words: as Qwen's, with single digits and combining marks kept with letters.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TURNS = ["system\n", "user\n", "assistant\n", "You are a helpful assistant.", "\n\n", "\n"]


@lru_cache
def chatml_json() -> bytes:
    """Byte-level BPE with the tokens of MiniCPM-V 4.6; those of thoughts are not special."""
    from manifests import CHATML
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, *_TURNS] * 20, trainer)
    tokenizer.add_special_tokens(list(CHATML[:-2]))
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in CHATML[-2:]])
    return tokenizer.to_str().encode()
