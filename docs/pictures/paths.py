"""Pictures of ways: through the pages, of a record, from a symptom to a command."""

from __future__ import annotations

from sheet import NOTE, Sheet, wrapped
from tables import table


def index() -> Sheet:
    """The order of the pages, from the table of docs/index.md."""
    rows = table("index", "", "page", "answers")
    sheet = Sheet("The way through these pages", 1000)
    wide, tall, across, top, step = 300, 80, 3, 56, 108
    for number, (_, page, answers) in enumerate(rows):
        row, place = divmod(number, across)
        column = place if row % 2 == 0 else across - 1 - place  # as a plough goes
        x, y = 20 + column * 330, top + row * step
        lines = wrapped(answers, wide - 30, NOTE)[:4]
        tone = "blue" if number == 0 else "green" if number == len(rows) - 1 else "plain"
        sheet.box(x, y, wide, f"{number + 1}  {page}", *lines, height=tall, tone=tone)
        if number + 1 == len(rows):
            break
        if place == across - 1:
            sheet.arrow((x + wide / 2, y + tall), (x + wide / 2, y + step))
        elif row % 2 == 0:
            sheet.arrow((x + wide, y + tall / 2), (x + 330, y + tall / 2))
        else:
            sheet.arrow((x, y + tall / 2), (x - 30, y + tall / 2))
    return sheet


def records() -> Sheet:
    """A record from the device where it is measured to the bundle that it speeds up."""
    sheet = Sheet(
        "The journey of a record",
        1000,
        "Data all the way: no step runs code that came with a record.",
    )
    sheet.box(20, 84, 210, "handglass tune", "measures candidates", "on your device", tone="orange")
    sheet.box(290, 84, 210, "your records", "~/.local/share/handglass/", "records/TARGET.jsonl")
    sheet.box(560, 84, 190, "records export", "records check", "every line, no model")
    sheet.box(800, 84, 180, "FILE.jsonl", "mailed, attached,", "put into a repository")
    sheet.arrow((230, 118), (290, 118))
    sheet.arrow((500, 118), (560, 118))
    sheet.arrow((750, 118), (800, 118))
    sheet.box(800, 238, 180, "records import", "on another machine:", "-m MODEL")
    sheet.arrow((890, 152), (890, 238))
    sheet.box(
        560,
        238,
        190,
        "proof, there",
        "results equal, and faster",
        "than the default",
        tone="orange",
    )
    sheet.arrow((800, 272), (750, 272))
    sheet.box(290, 238, 210, "their records", "of that user", "what fails is not kept")
    sheet.arrow((560, 272), (500, 272))
    sheet.box(20, 238, 210, "shipped records", "schedules/records/", "of a kind of processor")
    sheet.words(20, 346, "handglass compile takes, kernel by kernel, the first that fits:", "title")
    order = ("1  --records FILE", "2  yours", "3  shipped", "4  the rule's default")
    for number, name in enumerate(order):
        x = 20 + number * 180
        sheet.box(x, 360, 160, name, tone="green" if number < 3 else "dashed", height=38)
        if number:
            sheet.arrow((x - 20, 379), (x, 379))
    sheet.box(800, 354, 180, "bundle", "report.json names them")
    sheet.arrow((720, 379), (800, 379))
    return sheet


EXITS = (
    ("2", "usage", "the options are wrong", "handglass VERB --help"),
    ("3", "bad input", "a file is missing, damaged or of another kind", "handglass inspect PATH"),
    ("4", "device", "this machine lacks or refuses something", "handglass doctor BUNDLE"),
    (
        "5",
        "mismatch",
        "it ran, and the results or versions differ",
        "handglass verify BUNDLE --reference CHECKPOINT",
    ),
    ("70", "a bug", "not your fault", "handglass --debug VERB, and report it"),
)


def troubleshooting() -> Sheet:
    """From the exit code to what to ask next."""
    sheet = Sheet("The exit code says where to look", 1000)
    sheet.box(20, 190, 170, "handglass VERB", "ends with an error:", "what, where, what to do")
    for number, (code, kind, meaning, command) in enumerate(EXITS):
        y, tone = 56 + number * 66, "orange" if code == "70" else "blue"
        sheet.curve(190, 220, 250, y + 26, "grey")
        sheet.box(250, y, 300, f"{code}  {kind}", meaning, tone=tone)
        sheet.arrow((550, y + 26), (610, y + 26))
        sheet.box(610, y + 4, 370, command, height=44)
    return sheet
