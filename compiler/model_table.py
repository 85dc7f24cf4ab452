"""Which released models can be compiled, and how that was verified: data, for people.

`handglass models` prints it and docs/models.md is generated from it. The compiler does not read it:
`models/` decides by config.json. Tests hold the two against each other. It is not in `models/`,
because importing that package loads TVM, which a device does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from .checkpoints.unstated import PATCH_QUESTIONS, SQUARE_QUESTIONS, Question
from .model_proofs import (
    CANVAS,
    CANVAS_FRAMES,
    DEMO,
    DESCRIBED_PIXELS,
    DUAL_PIXELS,
    DUAL_ROWS,
    DUAL_TOKENS,
    EARLY,
    FILE,
    FRAMES,
    GPU_FRAMES,
    MERGED,
    MERGED_FRAMES,
    MINICPM,
    MIXTURE,
    NEEDS_TEMPLATE,
    OCR,
    OCR_PICTURES,
    OPEN_CLIP,
    PACKED,
    PADDED_TILES,
    PARAMETERS,
    PICTURE_PIXELS,
    PICTURE_ROWS,
    PIXELS,
    REAL_TOKENS,
    RELEASED,
    RESIZED,
    SEED,
    SEEN_LOGITS,
    SEEN_ROWS,
    SEEN_STAGES,
    SEEN_TOKENS,
    SENTENCE_ROWS,
    SENTENCE_TOKENS,
    SIZE_OF_MIXTURE,
    STAGES,
    STATED,
    TEXT,
    THINKING,
    TILED_PIXELS,
    TIMES,
    TWO_FILES,
    VIDEO_FILE,
    Proof,
)

RESAMPLER_TOWER = "SigLIP so400m/14, resampler with 64 queries"
MERGED_TOWER = "SigLIP so400m/14 merged by windows"
SPREAD = "1 frame per second, at most 128"
SLICES = "up to 9 slices and an overview"
NO_WEIGHTS = "released weights were not at hand"
NO_AUDIO = "released weights were not at hand; audio and speech are left out"


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
    questions: tuple[Question, ...] = ()
    """What config.json may or must say that the released file does not."""
    video: str = "-"
    """The frames that are shown of a video, unless the caller chooses; "-": it takes none."""


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
        (EARLY, REAL_TOKENS, STATED),
        f"{NO_WEIGHTS}, nor its code: a person who has them answers what its files do not say",
        SQUARE_QUESTIONS,
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
        (RELEASED, PADDED_TILES, DESCRIBED_PIXELS, PARAMETERS),
        f"{NO_WEIGHTS}; which positions of patches they were trained with is not documented",
        PATCH_QUESTIONS,
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
    _released("MiniCPM-V 4.0", "MiniCPM4-3B as Llama, longrope", NEEDS_TEMPLATE, PARAMETERS),
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
    Row(
        "SigLIP",
        ("SiglipModel",),
        "-",
        "its text tower; SigLIP 2 of a fixed resolution has the same class",
        "dual encoder: one row for a picture, one for a text",
        "-",
        (DUAL_ROWS, DUAL_PIXELS, DUAL_TOKENS, PARAMETERS),
        NO_WEIGHTS,
    ),
    Row(
        "CLIP",
        ("CLIPModel",),
        "-",
        "its text tower; a folder of OpenCLIP with towers of its own is the same model",
        "dual encoder: one row for a picture, one for a text",
        "-",
        (DUAL_ROWS, DUAL_PIXELS, DUAL_TOKENS, OPEN_CLIP, PARAMETERS),
        NO_WEIGHTS,
    ),
    Row(
        "ViT",
        ("ViTModel", "ViTForImageClassification"),
        "-",
        "none",
        "encoder: one row for a picture, and scores of its own labels; DINO has the same class, "
        "and DeiT without distillation",
        "-",
        (PICTURE_ROWS, PICTURE_PIXELS, PARAMETERS),
        NO_WEIGHTS,
    ),
    Row(
        "DeiT",
        (
            "DeiTModel",
            "DeiTForImageClassification",
            "DeiTForImageClassificationWithTeacher",
        ),
        "-",
        "none",
        "as ViT, with a token for distillation, and one head or two",
        "-",
        (PICTURE_ROWS, PICTURE_PIXELS),
        NO_WEIGHTS,
    ),
    Row(
        "DINOv2",
        ("Dinov2Model", "Dinov2ForImageClassification"),
        "-",
        "none",
        "as ViT; pictures of the size in preprocessor_config.json",
        "-",
        (PICTURE_ROWS, PICTURE_PIXELS, RESIZED, PARAMETERS),
        NO_WEIGHTS,
    ),
    Row(
        "DINOv2 with registers",
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification"),
        "-",
        "none",
        "as DINOv2, with registers",
        "-",
        (PICTURE_ROWS, PICTURE_PIXELS, RESIZED, PARAMETERS),
        NO_WEIGHTS,
    ),
    Row(
        "BERT",
        ("BertModel",),
        "-",
        "encoder: one row for a text, as sentence-transformers saves it (MiniLM, e5, bge)",
        "none",
        "-",
        (SENTENCE_ROWS, SENTENCE_TOKENS, PARAMETERS),
        "released weights were not at hand, but for those of all-MiniLM-L6-v2, which `make minilm` "
        "compares with transformers",
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
    Row(
        "Llama 3.2 Vision",
        ("MllamaForConditionalGeneration",),
        "-",
        "Llama 3.1 with layers that attend to pictures; on a CPU only, not in the native program",
        "an encoder of up to 4 tiles together, in two parts",
        "1 for a picture",
        (SEEN_ROWS, SEEN_LOGITS, SEEN_TOKENS, TILED_PIXELS, SEEN_STAGES, PARAMETERS),
        f"{NO_WEIGHTS}, nor its chat template: a system turn with the date, where no picture is "
        "shown, is not made; nothing was run at full size",
    ),
    _text("Qwen2", "Qwen2, Qwen2.5", TEXT, PACKED),
    _text("Qwen3", "Qwen3", TEXT),
    _text("Qwen3.5", "Qwen3.5", TEXT, FILE),
    _text("Qwen3.5Moe", "Qwen3.5-35B-A3B; on a CPU only", TEXT, FILE),
)
