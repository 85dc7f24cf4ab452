"""Which released models can be compiled, and how that was verified: data, for people.

`handglass models` prints it and docs/models.md is generated from it. The compiler does not read it:
`models/` decides by config.json. Tests hold the two against each other. It is not in `models/`,
because importing that package loads TVM, which a device does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

RESAMPLER_TOWER = "SigLIP so400m/14, resampler with 64 queries"
MERGED_TOWER = "SigLIP so400m/14 merged by windows"
SPREAD = "1 frame per second, at most 128"
SLICES = "up to 9 slices and an overview"
NO_WEIGHTS = "released weights were not at hand"
NO_AUDIO = "released weights were not at hand; audio and speech are left out"
COUNT = "tests/models/test_plan.py::test_published_parameters"


@dataclass(frozen=True)
class Proof:
    """What was verified, and the test that does it."""

    what: str
    test: str


@dataclass(frozen=True)
class Row:
    """A model that can be compiled."""

    name: str
    architectures: tuple[str, ...]
    version: str
    """The value of `version` in config.json, or how the model is recognized without one."""
    text: str
    vision: str
    tokens: str
    """Per tile."""
    proofs: tuple[Proof, ...] = ()
    unverified: str = ""
    video: str = "-"
    """The frames that are shown of a video, unless the caller chooses; "-": it takes none."""


PARAMETERS = Proof("its config.json gives the number of parameters known of the release", COUNT)
RELEASED = Proof(
    "tiny random checkpoint against transformers 5.24 (language model) and torch (vision): 64 "
    "greedy tokens, pictures none/one/sliced/two",
    "tests/models/test_releases.py::test_answer",
)
EARLY = Proof(
    "tiny random checkpoint against torch: prompt, rows of the tiles, logits and 64 greedy tokens, "
    "pictures none/one/sliced/two",
    "tests/models/test_early_releases.py::test_answer",
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
    "tiny random checkpoint against transformers 5.24: prompt of the chat template, 64 greedy "
    "tokens",
    "tests/models/test_text_only.py::test_answer",
)
PACKED = Proof(
    "weights packed by AWQ and by GPTQ: 64 greedy tokens of transformers with the unpacked ones",
    "tests/models/test_packed_weights.py::test_answer",
)
MINICPM = Proof(
    "tiny random checkpoint against torch: prompt of the chat template, 64 greedy tokens",
    "tests/models/test_text_only.py::test_minicpm",
)


def _released(name: str, text: str, *proofs: Proof, video: str = "-") -> Row:
    """One of the releases with a resampler and slices."""
    is_omni = "-o " in name
    return Row(
        name,
        ("MiniCPMO" if is_omni else "MiniCPMV",),
        name.split()[-1],
        text,
        f"{RESAMPLER_TOWER}; {SLICES}",
        "64",
        (RELEASED, DESCRIBED_PIXELS, *proofs),
        NO_AUDIO if is_omni else NO_WEIGHTS,
        video=video,
    )


def _text(name: str, models: str, *proofs: Proof, unverified: str = NO_WEIGHTS) -> Row:
    """A language model without vision."""
    architecture = f"{name.replace('.', '_')}ForCausalLM"
    return Row(name, (architecture,), "-", models, "none", "-", proofs, unverified)


OLD_TOWER = (
    "timm SigLIP so400m/14 without its last layer, resampler with 64 queries that have positions"
)
V47 = ("MiniCPMV4_7ForConditionalGeneration",)
TABLE = (
    Row(
        "MiniCPM-V with MiniCPM-1B",
        ("MiniCPMV",),
        "none, and another shape than the releases",
        "MiniCPM-1B",
        f"{RESAMPLER_TOWER}; one square",
        "64",
        (SEED, DEMO, PARAMETERS),
        "no weights of full size exist",
    ),
    Row(
        "MiniCPM-V 1.0",
        ("MiniCPMV",),
        "1.0, or hidden_size 2304 and intermediate_size 5760",
        "MiniCPM-2B",
        f"{OLD_TOWER}; one square",
        "64",
        (EARLY, REAL_TOKENS),
        f"{NO_WEIGHTS}, nor its code: the square, the enlarged positions of keys and the newline "
        "after a picture are those of its relatives",
    ),
    Row(
        "MiniCPM-V 2.0",
        ("MiniCPMV",),
        "2.0, or as 1.0 and slice_mode",
        "MiniCPM-2B",
        f"{OLD_TOWER}; {SLICES}",
        "64",
        (EARLY, DESCRIBED_PIXELS, REAL_TOKENS, PARAMETERS),
        NO_WEIGHTS,
    ),
    Row(
        "MiniCPM-V 2.5",
        ("MiniCPMV",),
        "2.5",
        "Llama-3-8B",
        f"SigLIP so400m/14, resampler with 96 queries; {SLICES}",
        "96",
        (RELEASED, DESCRIBED_PIXELS, PARAMETERS),
        f"{NO_WEIGHTS}; patches have the positions of their grid, the released code differs",
    ),
    _released(
        "MiniCPM-V 2.6",
        "Qwen2-7B",
        FRAMES,
        VIDEO_FILE,
        PARAMETERS,
        video="1 frame per second, at most 64, in up to 2 slices",
    ),
    _released("MiniCPM-o 2.6", "Qwen2-7B"),
    _released("MiniCPM-V 4.0", "MiniCPM4-3B as Llama, longrope", PARAMETERS),
    _released(
        "MiniCPM-V 4.5",
        "Qwen3-8B",
        FRAMES,
        TIMES,
        GPU_FRAMES,
        VIDEO_FILE,
        PARAMETERS,
        video="3 frames per second, at most 180 groups of up to 3",
    ),
    _released("MiniCPM-o 4.5", "Qwen3-8B"),
    Row(
        "MiniCPM-V 4.6",
        ("MiniCPMV4_6ForConditionalGeneration",),
        "-",
        "Qwen3.5 0.8B: gated delta net and attention",
        f"{MERGED_TOWER}; {SLICES}",
        "1/16 or 1/4 of its patches",
        (MERGED, PIXELS, MERGED_FRAMES, VIDEO_FILE, TWO_FILES, THINKING, PARAMETERS),
        f"{NO_WEIGHTS}, nor the chat template of Thinking",
        video=SPREAD,
    ),
    Row(
        "MiniCPM-V 4.7",
        V47,
        "-",
        "as 4.6, with positions on a canvas",
        f"{MERGED_TOWER}; {SLICES}",
        "1/16 or 1/4 of its patches",
        (CANVAS, PIXELS, CANVAS_FRAMES, TWO_FILES, PARAMETERS),
        NO_WEIGHTS,
        video=SPREAD,
    ),
    Row(
        "MiniCPM-V 4.7 35B-A3B",
        V47,
        "none; num_experts",
        "as 4.7, with a mixture of experts; on a CPU only",
        f"{MERGED_TOWER}; {SLICES}",
        "1/16 or 1/4 of its patches",
        (MIXTURE, PIXELS, STAGES, SIZE_OF_MIXTURE, TWO_FILES, PARAMETERS),
        f"{NO_WEIGHTS}, nor was its config.json: the sizes are those of Qwen3.5-35B-A3B",
        video=SPREAD,
    ),
    Row(
        "MiniCPM-OCR 1.0",
        ("MiniCPMOcrForConditionalGeneration",),
        "-",
        "as 4.6",
        f"{MERGED_TOWER}; {SLICES}; small pictures keep their size if preprocessor_config.json "
        "says so",
        "1/4 of its patches",
        (OCR, PIXELS, OCR_PICTURES),
        NO_WEIGHTS,
        video=SPREAD,
    ),
    _text("MiniCPM", "MiniCPM-1B, -2B, MiniCPM4-0.5B, -8B", MINICPM, PARAMETERS),
    _text(
        "Llama",
        "Llama 3.2, MiniCPM5-1B, SmolLM2",
        TEXT,
        PARAMETERS,
        unverified="released weights were not at hand, but for those of SmolLM2-135M-Instruct, "
        "whose perplexity `make smollm` compares with torch",
    ),
    _text("Qwen2", "Qwen2, Qwen2.5", TEXT, PACKED),
    _text("Qwen3", "Qwen3", TEXT),
    _text("Qwen3.5", "Qwen3.5", TEXT, FILE),
    _text("Qwen3.5Moe", "Qwen3.5-35B-A3B; on a CPU only", TEXT, FILE),
)
