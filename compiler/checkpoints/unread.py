"""Names the keys of a config.json that nothing has read.

Such a key may change the model in a way that the compiler does not know, so it is not passed over
in silence. Keys known to have no effect here are not named.
"""

from __future__ import annotations

import logging

from handglass.runtime.system.printable import printable

from .fields import Recorded

IRRELEVANT = frozenset(
    (
        # about the file and the library that wrote it
        *("_name_or_path", "auto_map", "model_type", "transformers_version", "tokenizer_class"),
        # precision and speed of the original code
        *("dtype", "torch_dtype", "mamba_ssm_dtype", "use_cache", "pretraining_tp"),
        *("_attn_implementation", "attn_implementation", "_attn_implementation_autoset"),
        *("batch_vision_input", "vision_batch_size", "batch_3d_resampler"),
        *("return_dict", "output_attentions", "output_hidden_states", "is_encoder_decoder"),
        # training
        *("attention_dropout", "initializer_range", "initializer_factor", "router_aux_loss_coef"),
        *("output_router_logits", "dropout"),
        *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout"),
        *("drop_path_rate", "layerscale_value", "use_mask_token", "gradient_checkpointing"),
        # how other models are built upon an encoder of pictures
        *("encoder_stride", "out_features", "out_indices", "stage_names"),
        *("apply_layernorm", "reshape_hidden_states"),
        # read with the tensors (packing.py)
        "quantization_config",
        # sliding windows are refused when they are switched on
        *("sliding_window", "max_window_layers"),
        # repeated elsewhere, or about tokens that the chat template names
        *("slice_config.patch_size", "image_size", "full_attention_interval", "pad_token_id"),
        *("image_start_id", "image_end_id", "slice_start_id", "slice_end_id", "newline_id"),
        *("bos_token_id", "image_token_id", "video_token_id", "mm_use_im_start_end"),
        # tensors for multi-token prediction, which are not used
        *("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings"),
    )
)
"""Names of keys in any section, or dotted paths."""
SHOWN, LONGEST = 20, 60
"""Keys of a message, and characters of each."""

log = logging.getLogger(__name__)


def warn_unread(config: Recorded) -> None:
    """Log one warning that names the keys, if there are any."""
    names = [name for name in config.unread() if not _is_irrelevant(name)]
    if names:
        shown = ", ".join(printable(name[:LONGEST]) for name in names[:SHOWN])
        log.warning(
            "config.json: keys that are not used: %s%s", shown, ", ..." * (len(names) > SHOWN)
        )


def _is_irrelevant(path: str) -> bool:
    return path in IRRELEVANT or path.rpartition(".")[2] in IRRELEVANT
