"""Bringing a bundle to a device: its files, a slim runtime where there is none, one question.

`deploy.py` tells the story. How bytes and commands get there is a `Transport`: a folder, ssh, adb.
"""
