"""Tuning records: the name of a rule, its choices, and their measurements, to keep and share.

A record contains no code and no trace; the rule replays its choices (schedules/choices.py). The
format and its trust model are described in docs/records.md.
"""
