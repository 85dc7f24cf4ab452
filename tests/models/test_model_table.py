"""The table of models against the code: families, tests, and the generated page."""

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from published import PARAMETERS, PUBLISHED

from handglass.compiler.model_proofs import COUNT
from handglass.compiler.model_table import TABLE, Row
from handglass.compiler.models import FAMILIES, find_family, read_config, text_only
from handglass.compiler.models.release import RELEASES

ROOT = Path(__file__).parents[2]


def named(row: Row) -> str:
    return row.name


def configs_of(row: Row) -> list[dict[str, Any]]:
    """The published configurations with an architecture and the title of the row."""
    found = [c for c in PUBLISHED.values() if set(c["architectures"]) <= set(row.architectures)]
    return [config for config in found if title(config) == row.name]


def title(config: dict[str, Any]) -> str:
    family, parsed = read_config(config)
    return family.title(parsed)


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_a_supported_model_is_found(row: Row) -> None:
    configs = configs_of(row)
    assert configs, "no configuration of this model is tested"
    for config in configs:
        assert find_family(config) in FAMILIES.values()
        stated = str(config.get("version", ""))
        assert row.version == stated or not stated


def test_every_model_that_is_found_is_in_the_table() -> None:
    titles = {row.name for row in TABLE}
    assert {title(config) for config in PUBLISHED.values()} == titles
    assert {release.name for release in RELEASES} < titles
    architectures = {name for row in TABLE for name in row.architectures}
    assert architectures > text_only.ARCHITECTURES.keys()


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_every_proof_is_a_test(row: Row) -> None:
    assert row.proofs and row.unverified
    for proof in row.proofs:
        path, _, name = proof.test.partition("::")
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_what_config_json_is_asked(row: Row) -> None:
    stated = [release.questions for release in RELEASES if release.name == row.name]
    assert row.questions == (stated[0] if stated else ())


def test_counted_parameters() -> None:
    counted = {title(PUBLISHED[name]) for name in PARAMETERS}
    claimed = {row.name for row in TABLE if COUNT in (proof.test for proof in row.proofs)}
    assert counted == claimed


def test_the_page_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "list_models.py"))["page"]()
    assert (ROOT / "docs" / "models.md").read_text("utf-8") == page, "run docs/list_models.py"


def test_the_verb(handglass: Any) -> None:
    out = " ".join(handglass("models").out.split())
    for row in TABLE:
        assert row.name in out and row.unverified in out
    rows = handglass("models", "--json").json["models"]
    assert [row["name"] for row in rows] == [row.name for row in TABLE]


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_videos_are_stated(row: Row) -> None:
    for config in configs_of(row):
        family, parsed = read_config(config)
        vision = family.vision(parsed)
        method = None if vision is None else vision.video
        assert (row.video != "-") == (method is not None)
        if method is not None:
            numbers = re.findall(r"\d+", row.video)
            given = method.parameters
            assert numbers[:2] == [f"{given['fps']:g}", str(given["max_frames"])]
            rest = given.get("packing", given.get("max_slices"))
            assert numbers[2:] == ([] if rest == 1 else [str(rest)])
