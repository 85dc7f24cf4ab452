"""Pictures of parts: extension points, the native program, the device server."""

from __future__ import annotations

from sheet import Sheet, wrapped
from tables import table

ADDED = (
    ("checkpoint", "a model", "FAMILIES"),
    ("checkpoint", "a method of packing", "METHODS"),
    ("checkpoint", "a GGUF architecture", "ARCHITECTURES"),
    ("compiler", "a scheme", "SCHEMES"),
    ("compiler", "a kernel", "KERNELS, OPERATORS, TABLE"),
    ("compiler", "an instruction", "INTEGER_ISAS, CPU_UNITS"),
    ("schedules", "a schedule", "CPU_RULES, GPU_RULES"),
    ("targets", "a board or phone", "BOARDS, PHONES"),
    ("targets", "code for a kind of device", "GENERATORS"),
    ("runtime", "a kind of device", "KINDS"),
    ("runtime", "how pictures are cut", "SLICINGS"),
    ("runtime", "a sampling filter", "Sampling"),
)
"""Stage, what can be added, and the tables that get one entry; docs/adding.md names them all."""


def adding() -> Sheet:
    """Where each extension has its entry."""
    sheet = Sheet(
        "One new piece of code, one entry in a table",
        1000,
        "Stages of the way from a checkpoint to an answer, what can be added to each, and the "
        "table that names it.",
    )
    stages = dict.fromkeys(stage for stage, *_ in ADDED)
    y = 78.0
    for stage in stages:
        entries = [entry for entry in ADDED if entry[0] == stage]
        tall = 46 * len(entries) + 4
        sheet.box(20, y, 170, stage, height=tall - 8, tone="blue")
        for place, (_, what, names) in enumerate(entries):
            middle = y + 19 + 46 * place
            sheet.arrow((300, middle), (190, middle))
            sheet.box(300, middle - 17, 270, f"+  {what}", height=34, tone="green")
            sheet.arrow((570, middle), (640, middle))
            sheet.box(640, middle - 17, 340, names, height=34)
        if stage != ADDED[-1][0]:
            sheet.arrow((105, y + tall - 8), (105, y + tall + 6))
        y += tall + 6
    return sheet


REQUESTS = ("describe", "put, load", "arguments", "measure", "compare", "drop")
"""Rows of the table of requests in docs/device-server.md."""


def device_server() -> Sheet:
    """What host and device say to each other."""
    effects = {
        row[0]: row[1].split(".")[0].split(";")[0]
        for row in table("device-server", "request", "effect")
    }
    sheet = Sheet(
        "A session between laptop and device",
        1000,
        "One client at a time, on the loopback address; ssh or adb forward the port. A frame "
        "is a length, a JSON object and its payload.",
    )
    ends = {"handglass tune": 130.0, "server": 640.0, "session, a fork": 880.0}
    for name, x in ends.items():
        sheet.box(
            x - 90, 86, 180, name, centred=True, height=34, tone="blue" if x < 200 else "orange"
        )
    host, server, fork = ends.values()
    y = 148.0
    for start, end, words in (
        (host, server, "nonce"),
        (server, host, "nonce, how the last session died"),
        (host, server, "proof of the key (HMAC)"),
        (server, host, "proof of the key, or: wrong key, busy"),
    ):
        sheet.arrow((start, y), (end, y), label=words)
        y += 28
    sheet.arrow((server, y), (fork, y), label="fork")
    top = y + 12
    for name in REQUESTS:
        y += 46
        sheet.arrow((host, y), (fork, y), two=True)
        sheet.words(host + 10, y - 7, name, "limit")
        first, *more = wrapped(effects[name], fork - host - 130)
        sheet.words(host + 110, y - 7, first.rpartition(",")[0] if more else first, "note")
    y += 52
    sheet.arrow((fork, y), (server, y), label="crash or time limit: it ends alone")
    sheet.arrow(
        (server, y + 28), (host, y + 28), label="SessionDied: SIGILL, SIGSEGV, time limit ..."
    )
    bottom = y + 46
    for x, begin in ((host, 120.0), (server, 120.0), (fork, top)):
        sheet.line(x, begin, x, bottom if x != fork else y, "grid")
    return sheet


GROUPS = (
    ("opens the bundle and answers", "green", "bundle"),
    ("loads the compiled code", "green", "elf_library"),
    ("runs it", "blue", "engine"),
    ("measures for a tuner", "orange", "device_*"),
)


def native() -> Sheet:
    """The host turns words into numbers, the program answers in numbers."""
    files = {row[0].split(",")[0]: row for row in table("native", "file", "contents")}
    sheet = Sheet("A question to a device without Python", 1000)
    sheet.box(20, 60, 290, "on the host", "answer.native_request:", "tokenizer, slicing, pixels")
    sheet.box(
        20, 170, 290, "files", "request.json: numbers of tokens", "tile-0.safetensors: pixels, grid"
    )
    sheet.arrow((165, 130), (165, 170))
    sheet.arrow((310, 204), (380, 204))
    sheet.box(20, 300, 290, "on the host again", "--read answer: numbers to text")
    y = 96.0
    for title, tone, key in GROUPS:
        names, contents = files[key]
        lines = [*wrapped(names, 560), *wrapped(contents, 560)]
        y = sheet.box(400, y, 560, title, *lines, tone=tone) + 8
    title = "handglass-native, one static executable"
    sheet.box(380, 60, 600, title, tone="dashed", height=y + 8 - 60)
    sheet.arrow((380, 328), (310, 328), label="tokens")
    return sheet


def vulkan() -> Sheet:
    """What must have been computed right before a bundle runs on a device."""
    import tvm

    from handglass.compiler.parity.known_kernels import known_kernels
    from handglass.targets import find_target

    target = find_target("vulkan")
    known = list(known_kernels(tvm.target.Target(target.tvm), target.kind))
    sheet = Sheet(
        "Why a driver is trusted",
        1000,
        "Known answers travel in the bundle and are compared on the device, in a process of "
        "their own, before the first run.",
    )
    sheet.box(
        20,
        90,
        250,
        "handglass compile",
        "numpy computes the answers of",
        "small kernels, a CPU those of",
        "the bundle's own",
        tone="blue",
    )
    sheet.box(20, 220, 250, "bundle", "checks.json, checks.so,", "checks.safetensors")
    sheet.arrow((145, 173), (145, 220))
    sheet.box(
        20,
        340,
        250,
        "first run on a device",
        "1  a child lists the devices",
        "2  quirks of its driver are looked up",
        "3  a child computes, 60 s a kernel",
        tone="orange",
    )
    sheet.arrow((145, 288), (145, 340))
    y = 90.0
    for each in known:
        floor = "every bit" if each.floor_db is None else f"at least {each.floor_db:.0f} dB"
        sheet.curve(270, 372, 350, y + 19, "grey")
        sheet.box(350, y, 400, f"{each.family}: {each.name}", height=38)
        sheet.words(765, y + 23, floor, "note")
        y += 46
    sheet.curve(270, 372, 350, y + 26, "grey")
    words = "the smallest of each variant of a rule"
    bottom = sheet.box(350, y, 400, "kernels of the bundle itself", words, tone="blue")
    sheet.words(765, y + 23, "by type", "note")
    sheet.box(
        20,
        465,
        250,
        "all right: kept for this driver",
        "next time nothing is computed",
        tone="green",
    )
    sheet.arrow((145, 425), (145, 465))
    sheet.words(
        350, bottom + 34, "One wrong answer: exit code 4 names it, and nothing runs there.", "note"
    )
    return sheet


ROWS = (
    ("picture", "ViT, DINO, DINOv2", "class token", "classify: its own labels"),
    ("picture", "SigLIP, CLIP", "vision tower", "classify: labels that are given"),
    ("text", "SigLIP, CLIP", "text tower", "search: pictures by a text"),
    ("text", "BERT (MiniLM, e5, bge)", "mean, or first token", "search: texts by a text"),
)
"""What goes in, the models that take it, where the row comes from, and one use of it."""


def embed() -> Sheet:
    """From a picture or a text to its row."""
    sheet = Sheet(
        "A picture or a text becomes one row",
        1000,
        "The direction of a row says what its picture shows or its text means: rows are compared "
        "by their cosine.",
    )
    top, step = 100.0, 66.0
    for number, (what, models, source, use) in enumerate(ROWS):
        y = top + step * number
        middle = y + 22
        sheet.box(20, y, 110, what, height=44, tone="blue")
        sheet.arrow((130, middle), (170, middle))
        sheet.box(170, y, 210, models, height=44, tone="green")
        sheet.arrow((380, middle), (420, middle))
        sheet.box(420, y, 190, source, height=44)
        sheet.arrow((610, middle), (650, middle))
        sheet.box(650, y, 60, "row", height=44, tone="orange")
        sheet.arrow((710, middle), (750, middle))
        sheet.box(750, y, 230, use, height=44, tone="dashed")
    return sheet
