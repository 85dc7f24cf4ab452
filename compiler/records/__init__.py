"""What tuning found out, kept and shared: a rule's name, its choices and how they were measured.

A record holds no code and no trace: our own rule replays its choices (schedules/choices.py). The
format and what may be trusted are in docs/records.md.
"""
