"""The chat templates of the releases, as the manifest's `prompt`."""

from __future__ import annotations

from collections.abc import Mapping

from handglass.runtime.bundle.entries import Around, PromptEntry

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
TILE_MARKERS = ("<image>", "</image>", "<slice>", "</slice>")
"""Around the rows of a tile, since 2.6."""
TAGS = ("image", "slice", "image_id")
ROLES = ("system", "user", "assistant")
NO_THOUGHTS = "<think>\n\n</think>\n\n"
THOUGHTS = Around("<think>", "</think>")


def whole_picture(has_ids: bool = False) -> dict[str, Around]:
    """The markers of models that do not slice pictures."""
    return {"picture": Around("<image>", "</image>")}


def picture_tiles(has_ids: bool = True) -> dict[str, Around]:
    """The markers of 2.6 and later: each slice has its own, rows end with a newline."""
    number = "<image_id>{picture}</image_id>" if has_ids else ""
    whole = Around(f"{number}<image>", "</image>")
    return {
        "picture": whole,
        "overview": whole,
        "slice": Around("<slice>", "</slice>"),
        "row_end": Around("<slice>", "</slice>\n"),
        "last": Around("<slice>", "</slice>"),
    }


def bracketed_tiles(has_ids: bool = False) -> dict[str, Around]:
    """The markers of 2.0 and 2.5: all slices together are in brackets, rows end with a newline."""
    return {
        "picture": Around("<image>", "</image>"),
        "overview": Around("<image>", "</image><slice>"),
        "slice": Around("<image>", "</image>"),
        "row_end": Around("<image>", "</image>\n"),
        "last": Around("<image>", "</image></slice>"),
    }


def reserved_tags() -> tuple[str, ...]:
    """The tokens of `picture_tiles`."""
    return _tokens(TAGS)


def _tokens(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"<{slash}{tag}>" for tag in tags for slash in ("", "/"))


def chatml(
    tiles: Mapping[str, Around],
    *,
    bos: str = "",
    system: str = "",
    thinks: bool = False,
    opened: str = "<think>\n",
    is_trimmed: bool = False,
    reserved: tuple[str, ...] = (),
    defaults: Mapping[str, float] | None = None,
    frames: Mapping[str, Around] | None = None,
) -> PromptEntry:
    """ChatML. `system`: the default text of the system turn; `thinks`: the model writes thoughts,
    and an empty block of them opens a plain answer; `opened`: what opens thoughts."""
    header = "<|im_start|>assistant\n"
    answer = {"plain": header + NO_THOUGHTS, "thinking": header + opened}
    return PromptEntry(
        bos=bos,
        roles={role: Around(f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ROLES},
        tiles=tiles,
        reserved=(
            *CHATML_TOKENS,
            *reserved,
            *((THOUGHTS.before, THOUGHTS.after) if thinks else ()),
        ),
        stop=("<|im_end|>",),
        answer=answer if thinks else {},
        thoughts=THOUGHTS if thinks else Around(""),
        system=system,
        is_trimmed=is_trimmed,
        between="\n" if tiles else "",
        defaults=dict(defaults or {}),
        frames=frames or {},
    )


def minicpm(
    tiles: Mapping[str, Around],
    defaults: Mapping[str, float],
    between: str = "",
    is_trimmed: bool = False,
) -> PromptEntry:
    """The template of MiniCPM-1B and 2B, without separators and without a system turn. `between`:
    what follows a picture that has no mark in the text."""
    tags = _tokens(TAGS[: 2 if "slice" in tiles else 1]) if tiles else ()
    return PromptEntry(
        bos="<s>",
        roles={"user": Around("<用户>"), "assistant": Around("<AI>")},
        tiles=tiles,
        reserved=("<s>", "<用户>", "<AI>", *tags, "<unk>", "</s>"),
        stop=("</s>",),
        is_trimmed=is_trimmed,
        between=between,
        defaults=dict(defaults),
    )


def llama3(
    tiles: Mapping[str, Around],
    defaults: Mapping[str, float] | None = None,
    picture: str = "",
    is_trimmed: bool = True,
) -> PromptEntry:
    """Llama 3: a header with the role, then trimmed text. `picture`: see PromptEntry."""
    turn = lambda role: Around(  # noqa: E731
        f"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>"
    )
    headers = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return PromptEntry(
        bos="<|begin_of_text|>",
        roles={role: turn(role) for role in ROLES},
        tiles=tiles,
        reserved=(*headers, *([picture] if picture else _tokens(TAGS[:2]) if tiles else ())),
        stop=("<|eot_id|>",),
        is_trimmed=is_trimmed,
        between="\n" if tiles and not picture else "",
        defaults=dict(defaults or {}),
        joint="" if picture else "\n",
        picture=picture,
    )
