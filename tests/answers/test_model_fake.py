"""The whole runtime except the compiled library, which a fake session replaces."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession
from scripted_model import MANIFEST, PROMPT, TOKENIZER, model, picture, prompt_ids, says, turns

from handglass.errors import DeviceError, InputError, UsageError
from handglass.runtime.answer.answer import AnswerStream
from handglass.runtime.answer.model import Answer, Model
from handglass.runtime.bundle.entries import Around
from handglass.runtime.prompt.chat_template import MARK


def test_an_answer_is_text_tokens_reason_and_times() -> None:
    answer = model(says("It is a red 圆 🙂.")).chat("What is this picture?", [picture(1)])
    assert isinstance(answer, Answer)
    assert answer.text == str(answer) == "It is a red 圆 🙂."
    assert answer.tokens == tuple(says("It is a red 圆 🙂.")[:-1])
    assert answer.finish_reason == "stop"
    times = answer.timings
    assert times.load_s == 1.5 and 0 < times.ttft_ms < 60_000 and times.peak_mb > 10
    assert len(times.encode_ms) == 1 and times.encode_ms[0] > 0
    assert times.prefill_tokens == prompt_ids("What is this picture?", 1)
    assert times.prefill_tok_s > 0 and times.decode_tok_s > 0
    assert times.decode_tokens == len(answer.tokens)


def test_a_stream_gives_the_same_in_pieces() -> None:
    script = says("红色的圆 🙂🏽 and more")
    whole = model(script).chat("What?", [picture(1)])
    stream = model(script).chat("What?", [picture(1)], stream=True)
    assert isinstance(stream, AnswerStream) and stream.answer is None
    pieces = list(stream)
    assert "".join(pieces) == whole.text and len(pieces) > 5
    assert all("\ufffd" not in piece and piece for piece in pieces)
    assert stream.answer is not None
    assert (stream.answer.text, stream.answer.tokens) == (whole.text, whole.tokens)
    assert stream.finish() is stream.answer


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    answer = model(TOKENIZER.encode("a🙂")).chat("x", max_tokens=3)
    assert answer.text == "a\ufffd" and answer.finish_reason == "length"


def test_stop_strings_cut_the_text() -> None:
    answer = model(says("one. two. three")).chat("x", stop=[". t"])
    assert answer.text == "one" and (answer.finish_reason, answer.cut_by) == ("stop", "")
    assert len(answer.tokens) < len(says("one. two. three")) - 1


def test_max_tokens_and_the_context_end_with_length() -> None:
    answer = model().chat("x", max_tokens=4)
    assert (answer.finish_reason, answer.cut_by) == ("length", "max_tokens")
    n = prompt_ids("hello world")
    answer = model(context=n + 2).chat("hello world")
    assert (answer.finish_reason, answer.cut_by) == ("length", "context")
    assert len(answer.tokens) == 3


def test_the_next_turn_computes_only_what_is_new() -> None:
    asked = model(says("It is red"))
    first = turns([picture(1), "What?"])
    answer = asked.chat(first)
    before = asked.session.prefilled[0][0] + len(answer.tokens)
    second = [*first, *turns("", answer.text)[1:], *turns("And how big?")]
    later = asked.chat(second)
    assert later.timings.reused_tokens == before
    assert asked.session.prefilled[1] == (later.timings.prefill_tokens, before)
    assert later.timings.prefill_tokens == prompt_ids("And how big?") - 1
    assert asked.session.images == 1
    fresh = model(says("It is red")).chat(second)
    assert fresh.timings.reused_tokens == 0 and fresh.text == later.text


def test_options_reach_the_sampler() -> None:
    drawn = [model().chat("x", temp=1.5, seed=s, max_tokens=12).tokens for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    greedy = model().chat("x", max_tokens=12)
    assert greedy.tokens == model().chat("x", temp=2.0, top_k=1, max_tokens=12).tokens
    assert greedy.tokens == model().chat("x", temp=2.0, top_p=1e-6, max_tokens=12).tokens
    penalised = model().chat("x", repeat_penalty=50.0, max_tokens=12)
    assert len(set(penalised.tokens)) >= len(set(greedy.tokens))


def test_openbmbs_way_returns_the_text() -> None:
    asked = model(says("It is red"))
    msgs = [{"role": "user", "content": "What?"}]
    text = asked.chat(image=picture(1), msgs=msgs, tokenizer=None, sampling=False)
    assert text == "It is red"
    assert msgs == [{"role": "user", "content": "What?"}]
    # The picture, a newline, the text.
    assert asked.session.prefilled[0][0] == prompt_ids("\nWhat?", 1)
    same = model(says("It is red")).chat(image=None, msgs=turns([picture(1), "What?"]))
    assert same == text


def test_openbmbs_stream_and_options() -> None:
    msgs = turns("What?")
    pieces = model(says("It is red")).chat(msgs=msgs, stream=True, temperature=0.1, seed=0)
    assert "".join(pieces) == "It is red"
    assert len(model().chat(msgs=msgs, max_new_tokens=1, sampling=False)) <= 10
    draws = {model().chat(msgs=msgs, max_new_tokens=8, seed=s) for s in range(6)}
    assert len(draws) > 1  # OpenBMB's default is sampling
    assert {model().chat(msgs=msgs, max_new_tokens=8, top_k=1, seed=s) for s in range(3)} == {
        model().chat(msgs=msgs, max_new_tokens=8, sampling=False)
    }


def test_openbmbs_options_beat_the_defaults_of_the_bundle() -> None:
    manifest = dataclasses.replace(
        MANIFEST, prompt=dataclasses.replace(PROMPT, defaults={"temp": 5.0, "max_tokens": 8})
    )
    session = FakeSession(TOKENIZER.vocab_size, 200, 4, ())
    asked = Model(session, TOKENIZER, manifest)
    answers = {name: {asked.chat(msgs=turns("What?"), **how) for _ in range(6)}
               for name, how in OPENBMB.items()}  # fmt: skip
    assert {name for name, texts in answers.items() if len(texts) == 1} == {"greedy", "cold"}


OPENBMB: dict[str, dict[str, Any]] = {
    "greedy": {"sampling": False},
    "cold": {"temperature": 1e-6},
    "none": {},
}


def test_openbmbs_system_prompt() -> None:
    manifest = dataclasses.replace(
        MANIFEST,
        prompt=dataclasses.replace(PROMPT, roles={**PROMPT.roles, "system": Around("<s>")}),
    )
    asked = []
    for how in (
        {"msgs": turns("What?"), "system_prompt": "Be short."},
        {"messages": [{"role": "system", "content": "Be short."}, *turns("What?")]},
    ):
        session = FakeSession(TOKENIZER.vocab_size, 200, 4, says("It"))
        Model(session, TOKENIZER, manifest).chat(**how)
        asked.append(session.prefilled[0][0])
    assert asked[0] == asked[1]


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, InputError, "message 1: "),
    "empty": ({"messages": ""}, InputError, "message 1: "),
    "no turns": ({"messages": []}, InputError, "prompt is empty"),
    "one path": ({"messages": "x", "images": "a.png"}, InputError, "images .*str"),
    "one image": ({"messages": "x", "images": picture(1)}, InputError, "images .*Image"),
    "one array": ({"messages": "x", "images": np.zeros((3, 3))}, InputError, "images .*ndarray"),
    "missing file": ({"messages": "x", "images": ["no.png"]}, InputError, r"'no\.png'"),
    "marks": ({"messages": MARK * 2, "images": [picture(1)]}, InputError, "2, .*1;"),
    "too long": ({"messages": "hello " * 300}, InputError, " 200 positions"),
    "temp": ({"messages": "x", "temp": -1}, UsageError, "temp=-1"),
    "top_p": ({"messages": "x", "top_p": 2}, UsageError, "top_p=2"),
    "max_tokens": ({"messages": "x", "max_tokens": 0}, UsageError, "max_tokens=0"),
    "stop": ({"messages": "x", "stop": "."}, UsageError, "stop='.'"),
    "unknown": ({"messages": "x", "beams": 3}, UsageError, "'beams'"),
    "mixture": ({"messages": "x", "msgs": turns("y")}, UsageError, "not both"),
    "image alone": ({"image": picture(1)}, UsageError, "msgs= and image="),
    "msgs a text": ({"msgs": "What?"}, UsageError, "msgs .*str"),
    "image, odd content": (
        {"msgs": [{"role": "user", "content": 3}], "image": picture(1)},
        InputError,
        r"picture \(int\)",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_bad_calls_fail_before_anything_runs(case: str, stream: bool) -> None:
    arguments, error, message = REFUSED[case]
    asked = model()
    with pytest.raises(error, match=message) as caught:
        asked.chat(**arguments, stream=stream)
    assert "\n" not in str(caught.value)
    assert asked.session.prefilled == [] and asked.session.images == 0


def test_after_an_error_the_model_answers_again() -> None:
    asked = model()
    good = asked.chat("x", max_tokens=5).tokens
    table = asked.session.table.copy()
    asked.session.table[:] = np.nan
    stream = asked.chat("y", stream=True)
    with pytest.raises(DeviceError, match="NaN"):
        list(stream)
    with pytest.raises(DeviceError, match="NaN"):
        stream.finish()
    asked.session.table[:] = table
    assert asked.chat("x", max_tokens=5).tokens == good


def test_a_stream_that_is_read_late_is_complete() -> None:
    asked = model()
    first = asked.chat("hello", stream=True, max_tokens=5)
    pieces = [next(first)]
    answer = asked.chat("x", max_tokens=5)
    assert answer.tokens == model().chat("x", max_tokens=5).tokens
    pieces.extend(first)
    assert "".join(pieces) == model().chat("hello", max_tokens=5).text


def test_a_closed_stream_ends_and_says_so() -> None:
    asked = model()
    stream = asked.chat("hello", stream=True)
    stream.close()
    assert list(stream) == []
    with pytest.raises(UsageError, match="closed"):
        stream.finish()
    assert asked.chat("x", max_tokens=5).tokens == model().chat("x", max_tokens=5).tokens


def test_a_stop_token_that_the_tokenizer_lacks_is_refused() -> None:
    prompt = dataclasses.replace(PROMPT, stop=("<|im_end|>",))
    with pytest.raises(InputError, match=r"'<\|im_end\|>'"):
        Model(FakeSession(), TOKENIZER, dataclasses.replace(MANIFEST, prompt=prompt))
