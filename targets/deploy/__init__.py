"""Deployment of a bundle to a device: its files, a slim runtime if needed, one test question.

`deploy.py` is the entry point. A `Transport` carries bytes and commands: a folder, ssh or adb.
"""
