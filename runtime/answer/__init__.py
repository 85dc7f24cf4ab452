"""Answers messages and pictures with generated text."""
