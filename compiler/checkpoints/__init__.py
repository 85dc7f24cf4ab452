"""Reading user checkpoints: safetensors files, shards, pickles and the fields of config.json."""
