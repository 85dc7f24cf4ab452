"""`handglass quickstart --list` and `--clean`: the bundles that it keeps."""

from __future__ import annotations

import time
from dataclasses import asdict

from handglass.runtime.system.user_cache import cache_folder

from .output import columns, print_json, size_text
from .quickstart_shelf import SHELF, kept

DAY_S = 86400


def show_kept(json: bool, clean: bool) -> None:
    """Print them, after removing them if asked to."""
    found = kept()
    if clean:
        for slot, _ in found:
            slot.remove()
    if json:
        bundles = [{"bundle": str(slot.bundle), **asdict(note)} for slot, note in found]
        print_json({"folder": str(cache_folder(SHELF)), "removed": clean, "bundles": bundles})
        return
    total = size_text(sum(note.bytes for _, note in found))
    verb = "removed" if clean else "kept"
    count = "1 bundle" if len(found) == 1 else f"{len(found)} bundles"
    print(f"{count} {verb}, {total}, in {cache_folder(SHELF)}")
    rows = [
        (slot.bundle.name, size_text(note.bytes), used_text(note.used), note.checkpoint)
        for slot, note in found
    ]
    if rows and not clean:
        print(columns([("BUNDLE", "SIZE", "LAST USED", "CHECKPOINT"), *rows]))
        print("to remove them: handglass quickstart --clean")


def used_text(used: float) -> str:
    days = int((time.time() - used) / DAY_S)
    return "today" if days < 1 else f"{days} days ago" if days > 1 else "yesterday"
