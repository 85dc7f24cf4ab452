"""The files that people bring: safetensors, shards, pickles, and the fields of config.json."""
