"""Names new pictures of a folder, such as a camera's frames, that fit a sentence.

python watch_folder.py BUNDLE FOLDER "a big red circle" 0.25 [ROUNDS]
"""

import sys
import time
from contextlib import suppress
from pathlib import Path

from handglass.errors import InputError
from handglass.runtime.search.encoder import Encoder


def main(bundle: str, folder: str, sentence: str, least: str, rounds: str = "1000000000") -> None:
    encoder, seen = Encoder.load(bundle), set[tuple[Path, int]]()
    text = encoder.text(sentence)
    for _ in range(int(rounds)):
        frames = {(path, path.stat().st_mtime_ns) for path in Path(folder).glob("*.[jp][pn]g")}
        for path, _ in sorted(frames - seen):
            with suppress(InputError):  # half written: it comes again with another time
                if (cosine := float(text @ encoder.picture(path))) >= float(least):
                    print(f"{cosine:.3f} {path.name}", flush=True)
        seen = frames
        time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
