"""Transport to a local folder: a memory card, a mounted device, or any other location."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from handglass.errors import DeviceError
from handglass.runtime.system.regular_file import open_regular

from .transport import Done, failed


class Folder:
    appends = True

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self.folder = str(path.resolve())

    def shell(self, script: str) -> Done:
        command = ["sh", "-s"]
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def send(self, source: Path, target: str, offset: int) -> None:
        try:
            with open_regular(source) as given, Path(target).open("ab") as taken:
                given.seek(offset)
                shutil.copyfileobj(given, taken, 1 << 20)
        except OSError as error:
            raise self._error(source, error) from error

    def _error(self, source: Path, error: OSError) -> DeviceError:
        return failed(self.where, f"writing {source.name}", Done(1, "", error.strerror or ""))
