"""The tokenizer.json of a CLIP folder that has only `vocab.json` and `merges.txt`.

Text is put into NFC, its white space is joined, and it is lowered; words are merged from the bytes
of their letters, of which the last one is marked (Radford et al. 2021, section 2.4).
"""

from __future__ import annotations

from handglass.errors import InputError

CLASS = "CLIPTokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
LAST = "</w>"
"""What the last byte of a word is marked with."""


def clip_json(ids: dict[str, int], merges: list[tuple[str, str]]) -> bytes:
    """Raises InputError for files that do not belong together."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
    from tokenizers import pre_tokenizers as cuts

    if missing := {START, END} - ids.keys():
        raise InputError(f"vocab.json: has no token {min(missing)}; it is not that of CLIP")
    try:
        tokenizer = Tokenizer(
            models.BPE(ids, merges, end_of_word_suffix=LAST, unk_token=END, fuse_unk=False)
        )
        words = cuts.Split(Regex(WORDS), "removed", invert=True)
    except Exception as error:  # the library raises its own, and plain ones
        raise InputError(f"vocab.json and merges.txt: {error}") from error
    space = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), space, normalizers.Lowercase()])
    tokenizer.pre_tokenizer = cuts.Sequence([words, cuts.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(t, ids[t]) for t in (START, END)]
    )
    added = [AddedToken(text, normalized=False, special=True) for text in (START, END)]
    tokenizer.add_special_tokens(added)
    return str(tokenizer.to_str()).encode()
