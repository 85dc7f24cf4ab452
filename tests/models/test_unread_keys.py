"""Keys of config.json that nothing reads are named, once."""

import json
import logging
from typing import Any

import pytest
from odd_models import GROUPED
from published import PUBLISHED, released_folder

from handglass.compiler.checkpoints.fields import Fields, Recorded
from handglass.compiler.checkpoints.unread import SHOWN, warn_unread
from handglass.compiler.models import read_config
from handglass.errors import InputError


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_what_was_read() -> None:
    config = Recorded({"a": 1, "b": {"c": 2, "d": {"e": 3}, "f": None}, "g": [{"h": 4}], "i": None})
    top = Fields(config, "config.json")
    assert top.integer("a") == 1
    assert list(config.unread()) == ["b", "g"]
    inner = top.section("b")
    assert inner.integer("c") == 2
    assert list(config.unread()) == ["b.d", "g"]
    assert inner.get("d").items()
    assert config["g"] == [{"h": 4}]
    assert list(config.unread()) == []


def test_it_is_an_object_in_messages() -> None:
    with pytest.raises(InputError, match=r"a is \{'b': 1\} \(an object\)"):
        Fields(Recorded({"a": {"b": 1}}), "config.json").integer("a")


@pytest.mark.parametrize("name", PUBLISHED)
def test_released_configurations_have_none(name: str, caplog: pytest.LogCaptureFixture) -> None:
    read_config(PUBLISHED[name])
    assert warnings(caplog) == []


@pytest.mark.parametrize("version", ["2.5", "4.6"])
def test_a_released_file_has_none(version: str, caplog: pytest.LogCaptureFixture) -> None:
    read_config(json.loads((released_folder(version) / "config.json").read_text()))
    assert warnings(caplog) == []


def test_a_derived_model(caplog: pytest.LogCaptureFixture) -> None:
    read_config(json.loads((released_folder("2.6") / "config.json").read_text()))
    keys = "gene_config, gene_hidden_size, gene_max_length, gene_vocab_size, use_gene_module"
    assert warnings(caplog) == [f"config.json: keys that are not used: {keys}"]


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"new": 1}, "new"),
        ({"vision_config": {**GROUPED["vision_config"], "new": 1}}, "vision_config.new"),
        ({"slice_config": {"max_slice_nums": 9}}, "slice_config"),
        ({"a\x1b[31m": True}, "a\\x1b[31m"),
        ({"dtype": "bfloat16", "new": None}, ""),
    ],
)
def test_unknown_keys(extra: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture) -> None:
    read_config(GROUPED | extra)
    expected = [f"config.json: keys that are not used: {named}"] if named else []
    assert warnings(caplog) == expected


def test_a_message_is_short(caplog: pytest.LogCaptureFixture) -> None:
    warn_unread(Recorded({f"{n:03}" + "x" * 1000: 1 for n in range(500)}))
    (message,) = warnings(caplog)
    assert message.endswith(", ...") and message.count("xxx") > SHOWN
    assert len(message) < 2000
    assert caplog.records[0].levelno == logging.WARNING


def test_layers_without_full_attention_are_refused() -> None:
    config = PUBLISHED["MiniCPM-V 2.6"] | {"layer_types": ["full_attention"] * 28}
    read_config(config)
    for types in ("full_attention", ["full_attention", "sliding_attention"]):
        with pytest.raises(InputError, match="layer_types"):
            read_config(config | {"layer_types": types})


def test_end_tokens_of_both_places() -> None:
    """The released 4.6 has one at the top only."""
    config = PUBLISHED["MiniCPM-V 4.6"]
    assert read_config(config)[1].language.eos_token_ids == (248044,)
    config = config | {"text_config": config["text_config"] | {"eos_token_id": 7}}
    assert read_config(config)[1].language.eos_token_ids == (7, 248044)


def test_pictures_of_minicpm_ocr_are_refused() -> None:
    config = PUBLISHED["MiniCPM-V 4.6"]
    read_config(config | {"small_image_upsize": "always"})
    with pytest.raises(InputError, match="small_image_upsize is 'adaptive'"):
        read_config(config | {"small_image_upsize": "adaptive"})
