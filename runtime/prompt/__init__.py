"""Prompt construction: chat template, tokenizer, image preprocessing."""
