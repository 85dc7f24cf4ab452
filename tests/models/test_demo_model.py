"""The demo model: its training code against the reference, and the accuracy of its weights."""

import random
from pathlib import Path

import pytest
import torch
import torch_minicpmv as reference
from demo_model import CONFIG, DemoModel, initialise, load_checkpoint, save_checkpoint
from muon import orthogonal
from packing import IGNORE, ROW, Row, Tokenizer, assemble, make_batch, visible
from questions import Item, held_out
from scenes import draw
from train_demo import exact, greedy, losses

CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo-checkpoint"
LIMIT = 20 * 2**20  # bytes; the checkpoint is part of the repository


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return load_checkpoint(CHECKPOINT)


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer(CHECKPOINT / "tokenizer.model")


def pictures(item: Item) -> list:
    return [draw(scene, 224) for scene in item.scenes]


def test_the_checkpoint_is_small_and_half_precision() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) < LIMIT
    from safetensors import safe_open

    with safe_open(CHECKPOINT / "model.safetensors", "pt") as file:
        names = set(file.keys())
        assert all(file.get_slice(name).get_dtype() == "F16" for name in names)
    assert "llm.lm_head.weight" not in names and "resampler.pos_embed" not in names


def test_answers_equal_those_of_the_reference(model: DemoModel, tok: Tokenizer) -> None:
    config, weights = reference.load(CHECKPOINT)
    for item in held_out(8, seed=7):
        seen = [reference.encode_image(weights, config, picture) for picture in pictures(item)]
        ids = reference.prompt_ids(CHECKPOINT, config, item.question, len(seen))
        answer = greedy(model, tok, pictures(item), item.question)
        expected = [*tok.encode(answer), config["eos_token_id"]]
        assert reference.greedy(weights, config, ids, seen, len(expected)) == expected


def test_the_shipped_weights_answer_new_questions(model: DemoModel, tok: Tokenizer) -> None:
    """The limit is well below the measured accuracy, so that only a damaged file fails."""
    right = exact(model, tok, list(held_out(102, seed=8)))
    assert sum(right) / len(right) > 0.9


def test_a_packed_dialogue_equals_the_same_dialogue_alone(tok: Tokenizer) -> None:
    """The mask hides the other branches of the row, and positions continue after the image."""
    model = DemoModel(CONFIG)
    initialise(model)
    scenes = next(held_out(1, seed=1)).scenes
    parts = [([9 + k, 20, tok.assistant], [30 + k, 31]) for k in range(3)]
    packed = Row(tok.prefix(1))
    for number, (question, answer) in enumerate(parts):
        assert packed.add(question, answer, number + 1)
    together = _logits(model, packed, scenes)
    for number, (question, answer) in enumerate(parts):
        alone = Row(tok.prefix(1))
        alone.add(question, answer, 0)
        expected = _logits(model, alone, scenes)
        torch.testing.assert_close(together[3 * number : 3 * number + 3], expected)


@torch.no_grad()
def _logits(model: DemoModel, row: Row, scenes: tuple) -> torch.Tensor:
    """Logits of the answer tokens: two and the end token per dialogue."""
    targets = sum(label != IGNORE for label in row.labels)
    return losses(model, None, assemble(random.Random(0), [row], [scenes], targets))[2]


def test_the_mask_shows_the_prefix_and_the_own_branch() -> None:
    mask = visible(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert mask[3] == [1, 1, 1, 1, 0, 0]
    assert mask[4] == [1, 1, 0, 0, 1, 0]
    assert mask[5][5] == 1  # padding attends to itself, as an empty row would be NaN


def test_batches_have_one_shape_and_labels_for_their_targets(tok: Tokenizer) -> None:
    first, second = (make_batch(random.Random(seed), tok, 3) for seed in (1, 2))
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in second.items()}
    assert first["ids"].shape[1] == ROW
    assert (first["labels"] != IGNORE).float().mean() > 0.8


def test_a_saved_checkpoint_loads_again(tmp_path: Path) -> None:
    model = DemoModel(CONFIG)
    initialise(model)
    save_checkpoint(model, tmp_path, CHECKPOINT / "tokenizer.model")
    for name, tensor in load_checkpoint(tmp_path).state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name].half().float())


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 32, 96), (3, 96, 32)])
def test_muon_updates_are_nearly_orthogonal(shape: tuple[int, int, int]) -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.manual_seed(0))))
    assert values.max() < 1.3
    assert values.median() > 0.6
