"""Pictures for a large index: drawings of one or two shapes, and files that are no pictures."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from scenes import draw, random_scene

SIDE = 112
PER_FOLDER = 1000


def draw_pictures(folder: Path, count: int, seed: int) -> dict[str, frozenset[str]]:
    """Name -> the shapes it shows, such as "big red circle"; the same for the same seed."""
    rng, shown = random.Random(seed), {}
    for number in range(count):
        scene = random_scene(rng, rng.randint(1, 2))
        name = f"{number // PER_FOLDER:03d}/{number:06d}.png"
        shown[name] = frozenset(shape.noun("en", size=True) for shape in scene.shapes)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(scene, SIDE).save(path)
    return shown


def add_damaged(folder: Path, good: Path) -> set[str]:
    """Four files with a picture's name, none of which can be read as one; their names."""
    data = good.read_bytes()
    middle = len(data) // 2
    contents = {
        "damaged.png": data[:middle] + bytes(byte ^ 0xFF for byte in data[middle:]),
        "empty.png": b"",
        "cut.png": data[:middle],
        "text.png": b"Dear diary, this is no picture.\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return set(contents)


def change(folder: Path, names: list[str], rng: random.Random) -> dict[str, int]:
    """Draw, change, copy, rename and delete some pictures; what `handglass index` must count."""
    chosen = rng.sample(names, 15)
    changed, copied, renamed, deleted = chosen[:5], chosen[5:8], chosen[8:11], chosen[11:]
    for number in range(6):
        draw(random_scene(rng, 3), SIDE).save(folder / f"new {number}.png")
    for name in changed:
        draw(random_scene(rng, 3), SIDE).save(folder / name)
    for name in copied:
        shutil.copyfile(folder / name, folder / f"copy {Path(name).name}")
    for name in renamed:
        (folder / name).rename(folder / f"renamed {Path(name).name}")
    for name in deleted:
        (folder / name).unlink()
    return {
        "total": len(names) + 6 + len(copied) - len(deleted),
        "added": 6 + len(changed),
        "moved": len(copied) + len(renamed),
        "removed": len(renamed) + len(deleted),
    }
