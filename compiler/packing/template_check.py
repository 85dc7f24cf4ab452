"""Compares the compiled-in prompt with the chat template of the checkpoint.

Both render a few conversations; a difference is reported in a warning, since the template may be
edited, or the model trained on another prompt. It does not end a compilation: templates with tools,
dates or the like are right in their own way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from handglass.runtime.bundle.entries import PromptEntry
from handglass.runtime.prompt.chat_template import PLAIN, THINKING, Tokens, build_prompt

from ..checkpoints.rendering import INSTALL, PACKAGE, can_render, render
from ..checkpoints.template_file import TemplateFile

Message = Mapping[str, str]
BEFORE, AFTER = 24, 48
"""Characters of an excerpt around the first difference."""

THINKS = "enable_thinking"
"""The variable of templates that says whether to think."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversation:
    name: str
    messages: tuple[Message, ...]
    thinking: bool = False


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


ASKED = _message("user", "What is this?")
CONVERSATIONS = (
    Conversation("one user turn", (ASKED,)),
    Conversation("a system and a user turn", (_message("system", "Be short."), ASKED)),
    Conversation(
        "two user turns",
        (ASKED, _message("assistant", "A circle."), _message("user", "Which color?")),
    ),
    Conversation("white space around texts", (_message("user", " \nWhat is this?\n "),)),
    Conversation("one user turn with thinking", (ASKED,), thinking=True),
)


class Spelling:
    """A tokenizer whose ids are code points, so that a prompt is its text."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def marker_ids(self, marker: str) -> tuple[int, ...]:
        return tuple(self.encode(marker))

    def token_id(self, piece: str) -> int:
        raise AssertionError(f"the begin token {piece!r} is not compared")


def warn_of_differences(prompt: PromptEntry, template: TemplateFile) -> None:
    """Log a warning that names the first difference, if there is one."""
    if not template.text:
        return
    if not can_render():
        log.warning(
            "the checkpoint's chat template was not compared with the compiled-in prompt and does "
            "not decide whether the model thinks: %s is not installed (%s)",
            PACKAGE,
            INSTALL,
        )
        return
    if found := next(differences(prompt, template), ""):
        log.warning("the checkpoint's chat template differs from the compiled-in prompt: %s", found)


def thinks_by_default(prompt: PromptEntry, template: TemplateFile) -> bool:
    """Whether the template opens an answer with thoughts if nobody says whether to think."""
    if not template.text or THINKING not in prompt.answer or not can_render():
        return False
    variables = _variables(CONVERSATIONS[0], prompt, template)
    del variables[THINKS]
    (found,) = render(template.text, [variables])
    plain, thinking = prompt.answer[PLAIN], prompt.answer[THINKING]
    text = found.text or ""
    return text.endswith(thinking) and not text.endswith(plain)


def differences(prompt: PromptEntry, template: TemplateFile) -> Iterator[str]:
    """Each conversation that the two render differently, in words."""
    known = [one for one in CONVERSATIONS if _is_known(one, prompt)]
    texts = render(template.text, [_variables(one, prompt, template) for one in known])
    for conversation, theirs in zip(known, texts, strict=True):
        ours = compiled_text(prompt, conversation)
        if theirs.text is None:
            yield f"it does not render {conversation.name}: {theirs.error}"
        elif (text := theirs.text.removeprefix(prompt.bos)) != ours:
            yield f"in {conversation.name} {_excerpts(text, ours)}"


def compiled_text(prompt: PromptEntry, conversation: Conversation) -> str:
    """The compiled-in prompt of a conversation, without the begin token: some tokenizers add it,
    so that a template may have it or not."""
    built = build_prompt(
        conversation.messages,
        (),
        Spelling(),
        replace(prompt, bos=""),
        lambda picture: (),
        conversation.thinking,
    )
    ids = (id_ for part in built.segments if isinstance(part, Tokens) for id_ in part.ids)
    return "".join(map(chr, ids))


def _is_known(conversation: Conversation, prompt: PromptEntry) -> bool:
    """Whether the prompt has its roles and can be asked to think."""
    roles = {message["role"] for message in conversation.messages}
    return roles <= prompt.roles.keys() and (not conversation.thinking or THINKING in prompt.answer)


def _variables(
    conversation: Conversation, prompt: PromptEntry, template: TemplateFile
) -> dict[str, Any]:
    """What transformers passes to a template."""
    thinking = {THINKS: conversation.thinking} if THINKING in prompt.answer else {}
    return {
        "messages": conversation.messages,
        "add_generation_prompt": True,
        "tools": None,
        "documents": None,
        "bos_token": template.bos,
        "eos_token": template.eos,
        **thinking,
    }


def _excerpts(theirs: str, ours: str) -> str:
    """The two texts around the first difference."""
    at = len(os.path.commonprefix([theirs, ours]))  # noqa: RUF071  of any texts
    start = max(at - BEFORE, 0)
    shown = (repr(text[start : at + AFTER]) for text in (theirs, ours))
    return "at character {}: the template has {}, compiled in is {}".format(at, *shown)
