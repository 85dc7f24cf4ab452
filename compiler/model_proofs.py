"""What was verified of the models that can be compiled: each claim with the test that does it."""

from __future__ import annotations

from dataclasses import dataclass

COUNT = "tests/models/test_plan.py::test_published_parameters"


@dataclass(frozen=True)
class Proof:
    """What was verified, and the test that does it."""

    what: str
    test: str


PARAMETERS = Proof("its config.json gives the number of parameters known of the release", COUNT)
RELEASED = Proof(
    "tiny random checkpoint against transformers 5.24 (language model) and torch (vision): prompt, "
    "logits and 64 greedy tokens, pictures none/one/sliced/two",
    "tests/models/test_releases.py::test_answer",
)
EARLY = Proof(
    "tiny random checkpoint against torch: prompt, rows of the tiles, logits and 64 greedy tokens, "
    "pictures none/one/sliced/two",
    "tests/models/test_early_releases.py::test_answer",
)
STATED = Proof(
    "a config.json without the answers is refused, and each answer is honoured",
    "tests/models/test_config.py::test_what_no_file_says_is_asked_for",
)
PADDED_TILES = Proof(
    "tiles are padded to the largest one, as the released code does",
    "tests/prompts/test_padded_tiles.py::test_all_tiles_are_as_long_as_the_longest",
)
NEEDS_TEMPLATE = Proof(
    "a checkpoint without a chat template is refused, because the prompt is not certain",
    "tests/models/test_releases.py::test_a_prompt_that_is_not_certain_needs_a_template",
)
REAL_TOKENS = Proof(
    "its released tokenizer, where it is at hand: known token ids of whole prompts",
    "tests/prompts/test_released_sentencepiece.py::test_prompt_of_a_picture",
)
MERGED = Proof(
    "tiny random checkpoint against transformers 5.24: prompt, logits and 64 greedy tokens, "
    "pictures none/one/sliced/two, 16x and 4x",
    "tests/models/test_minicpmv46.py::test_answer",
)
SEEN_ROWS = Proof(
    "tiny random checkpoint against transformers 5.24, within 1e-4: rows of pictures of one tile "
    "to four. `intermediate_layers_indices` are outputs of layers in that class, but inputs here "
    "and in the released implementation; the test numbers them so",
    "tests/models/test_mllama.py::test_rows_of_a_picture",
)
SEEN_LOGITS = Proof(
    "logits within 1e-4: one tile, several, two pictures, side by side, text before a picture, "
    "text alone. In that class, text before a picture attends to it, but not here nor in the "
    "released implementation; the test masks it",
    "tests/models/test_mllama.py::test_logits",
)
SEEN_TOKENS = Proof(
    "greedy tokens of `generate` over several turns and pictures, with the same mask",
    "tests/models/test_mllama.py::test_generated_tokens",
)
TILED_PIXELS = Proof(
    "pixels bit for bit as the processor of transformers makes them with Pillow",
    "tests/models/test_mllama.py::test_pixels",
)
SEEN_STAGES = Proof(
    "`handglass verify` on a tiny random checkpoint: every stage in f32, and (`make test-large`) "
    "with vision in w8a8 and the rest in w4a8",
    "tests/models/test_mllama.py::test_verify_holds",
)
DUAL_ROWS = Proof(
    "tiny random checkpoint against transformers 5.24, within 1e-4: rows of pictures of odd sizes "
    "and of texts of every length",
    "tests/models/test_dual_encoders.py::test_rows_are_those_of_the_reference",
)
DUAL_PIXELS = Proof(
    "pixels bit for bit as transformers' processors make them with Pillow",
    "tests/models/test_dual_encoders.py::test_pixels_are_those_of_the_reference",
)
DUAL_TOKENS = Proof(
    "token ids as transformers' tokenizers make them: Chinese, emoji, empty, too long",
    "tests/models/test_dual_encoders.py::test_ids_are_those_of_the_reference",
)
PICTURE_ROWS = Proof(
    "tiny random checkpoint against transformers 5.24, within 1e-4: rows of pictures of odd sizes, "
    "scores of labels (`make test-large` for all)",
    "tests/models/test_picture_encoders.py::test_rows_are_those_of_the_reference",
)
PICTURE_PIXELS = Proof(
    "pixels bit for bit as transformers' processors make them with Pillow",
    "tests/models/test_picture_encoders.py::test_pixels_are_those_of_the_reference",
)
RESIZED = Proof(
    "positions for pictures of another size as torch resizes them",
    "tests/models/test_picture_encoders.py::test_positions_are_resized_as_torch_does",
)
SENTENCE_ROWS = Proof(
    "tiny random checkpoint against transformers 5.24, within 1e-4: rows of texts of every length",
    "tests/models/test_sentence_encoders.py::test_rows_are_those_of_the_reference",
)
SENTENCE_TOKENS = Proof(
    "token ids as transformers' tokenizer makes them, of tokenizer.json or of vocab.txt",
    "tests/models/test_sentence_encoders.py::test_ids_are_those_of_the_reference",
)
OPEN_CLIP = Proof(
    "a folder of OpenCLIP: every tensor is transformers', rows are those of OpenCLIP 3.3",
    "tests/models/test_open_clip.py::test_rows_are_those_of_the_package",
)
FRAMES = Proof(
    "tiny random checkpoint against transformers 5.24 (language model) and torch (vision): prompt "
    "and 64 greedy tokens, videos whole, with fewer frames, slices or groups",
    "tests/models/test_releases.py::test_video",
)
TIMES = Proof(
    "groups of frames against torch, within 1e-4: up to six frames, sizes and times of any kind",
    "tests/models/test_releases.py::test_frames_are_resampled_together",
)
VIDEO_FILE = Proof(
    "an MP4 file by command: the answer to the same frames in a list",
    "tests/models/test_video_files.py::test_run",
)
GPU_FRAMES = Proof(
    "the same on a software GPU (Vulkan), and 32 greedy tokens about a video",
    "tests/devices/test_vulkan_releases.py::test_frames_are_resampled_together",
)
MERGED_FRAMES = Proof(
    "tiny random checkpoint against transformers 5.24: prompt, logits and 64 greedy tokens, videos "
    "of 2 and 7 frames, 16x and 4x",
    "tests/models/test_minicpmv46.py::test_video",
)
CANVAS_FRAMES = Proof(
    "tiny random checkpoint against transformers 5.24: prompt, logits and 64 greedy tokens, a "
    "video of 5 frames, 16x and 4x",
    "tests/models/test_minicpmv47.py::test_video",
)
CANVAS = Proof(
    "tiny random checkpoint against transformers 5.24: prompt, logits and 64 greedy tokens, "
    "pictures none/one/sliced/two, 16x and 4x",
    "tests/models/test_minicpmv47.py::test_answer",
)
MIXTURE = Proof(
    "tiny random checkpoint against transformers 5.24: prompt, logits and 64 greedy tokens, "
    "pictures none/one/sliced/two",
    "tests/models/test_mixture.py::test_answer",
)
STAGES = Proof(
    "`handglass verify` on a tiny random checkpoint: every stage in f32, w8a8 and w4a8",
    "tests/models/test_mixture.py::test_verify_holds",
)
SIZE_OF_MIXTURE = Proof(
    "the model of transformers 5.24 has as many parameters at these sizes",
    "tests/models/test_mixture.py::test_parameters_are_those_of_the_reference",
)
THINKING = Proof(
    "Instruct and Thinking: the chat template decides whether it thinks unless it is told",
    "tests/models/test_template_check.py::test_the_template_may_think_by_default",
)
OCR = Proof(
    "tiny random checkpoint against transformers 5.24: prompt, logits and 64 greedy tokens, "
    "pictures none/one/sliced/two",
    "tests/models/test_minicpm_ocr.py::test_answer",
)
OCR_PICTURES = Proof(
    "tiles and pixels against the image processor of transformers 5.24, with Pillow's resizing",
    "tests/prompts/test_small_pictures.py::test_tiles",
)
PIXELS = Proof(
    "pixels of 50 pictures of odd sizes, bit by bit: against the image processor of transformers "
    "5.24",
    "tests/prompts/test_released_pixels.py::test_pixels",
)
DESCRIBED_PIXELS = Proof(
    "pixels of 50 pictures of odd sizes, bit by bit: against loops that follow the description",
    "tests/prompts/test_released_pixels.py::test_pixels",
)
TWO_FILES = Proof(
    "a GGUF file and its mmproj file, written by the rules of llama.cpp's converter: tensors and "
    "configuration of the folder; prompt, logits and 64 greedy tokens (`make test-large`)",
    "tests/models/test_gguf_merged_vision.py::test_tensors_and_configuration_are_those_of_the_folder",
)
FILE = Proof(
    "a GGUF file written by the rules of llama.cpp's converter: prompt and 64 greedy tokens",
    "tests/models/test_gguf.py::test_answer",
)
SEED = Proof(
    "tiny random checkpoints against torch: every stage, and 64 greedy tokens, pictures "
    "none/one/two",
    "tests/models/test_end_to_end.py::test_answers_are_equal_token_by_token",
)
DEMO = Proof(
    "trained demo checkpoint against torch: greedy answers about pictures",
    "tests/models/test_demo_model.py::test_answers_equal_those_of_the_reference",
)
TEXT = Proof(
    "tiny random checkpoint against transformers 5.24: prompt of the chat template, logits and 64 "
    "greedy tokens",
    "tests/models/test_text_only.py::test_answer",
)
PACKED = Proof(
    "weights packed by AWQ and by GPTQ: 64 greedy tokens of transformers with the unpacked ones",
    "tests/models/test_packed_weights.py::test_answer",
)
MINICPM = Proof(
    "tiny random checkpoint against torch: prompt of the chat template, logits and 64 greedy "
    "tokens",
    "tests/models/test_text_only.py::test_minicpm",
)
