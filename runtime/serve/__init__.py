"""Answers over HTTP: several conversations with one model in memory, as OpenAI's API."""
