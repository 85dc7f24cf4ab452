"""The readers of files and messages, each with good inputs to damage.

A reader does with an input what the product would do, up to the point where compiled code runs.
"""

from __future__ import annotations

from . import (
    bundle_readers,
    checkpoint_readers,
    conversation_readers,
    device_readers,
    page_readers,
    prompt_readers,
    search_readers,
)

READERS = {
    **bundle_readers.READERS,
    **checkpoint_readers.READERS,
    **prompt_readers.READERS,
    **device_readers.READERS,
    **page_readers.READERS,
    **conversation_readers.READERS,
    **search_readers.READERS,
}
"""In this order, which together with a seed and a number determines an input."""


def warm_up() -> None:
    """Import everything and make the inputs, before limits are set."""
    import tvm  # noqa: F401

    import handglass.compiler.build
    import handglass.runtime.answer.native_request
    import handglass.runtime.answer.saved_file
    import handglass.runtime.search.cells
    import handglass.runtime.search.rows_file
    import handglass.runtime.search.sheet  # noqa: F401

    for reader in READERS.values():
        reader.seeds()
