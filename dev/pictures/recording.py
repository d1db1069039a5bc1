"""A recording of a command in a terminal: what it writes for people, as an SVG that types and shows it again and again.
Readers who asked their system for less motion, and viewers without animation, see the end of it at once."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from typing import NamedTuple
from xml.sax.saxutils import escape

from dev.command import Failure

COLUMNS, LINES = 80, 50
SECONDS_MAX = 60

# Pixels. A column is as wide as a character of most monospaced fonts of this size.
FONT = 14
COLUMN = 8.4
LINE = 20
BASELINE = 15
CURSOR = LINE - 3
PADDING, ABOVE = 18, 14
BAR = 34
BUTTON, BUTTONS_APART = 6, 20
CORNER = 9

# Milliseconds from the beginning of a round to each of its parts.
TYPE_AT, TYPE_END, RUN_AT, RUN_END, ROUND = 700, 2_900, 3_300, 4_700, 10_700

PROMPT = "$ "

# What the codes of SGR are called here; the reset code ends all of them.
STYLES = {"1": "strong", "2": "faint", "31": "bad", "32": "good", "33": "warning"}
RESET = ("", "0")
CONTROL = re.compile(r"\x1b\[([0-9;]*)m")

# Characters that are drawn as lines, because fonts differ in them.
RULES = {"━": "heavy", "─": "light", "╌": "broken"}
RULE = re.compile(f"[{''.join(RULES)}]+")
# Words with one blank between them are one text. More blanks begin a text at its own column, whatever the font.
WORDS = re.compile(r"\S+(?: \S+)*")

BUTTONS = "#f0716a", "#eebd4f", "#63c466"
STYLE = f"""
text {{ font: {FONT}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #dfe5ee }}
path {{ fill: none; stroke: #dfe5ee }}
.window {{ fill: #1a212c; stroke: #434e5f }}
.bar {{ fill: #262f3d; stroke: none }}
.name {{ fill: #a3aebd; text-anchor: middle }}
.prompt, .faint {{ fill: #98a4b5 }}
.strong {{ fill: #fff; font-weight: bold }}
.good {{ fill: #74d694 }}
.bad {{ fill: #ff938a }}
.warning {{ fill: #ecc766 }}
.heavy {{ stroke-width: 4 }}
path.faint {{ stroke: #7d899b }}
.broken {{ stroke-dasharray: 3 1.2 }}
.cursor {{ fill: #dfe5ee }}
.cover {{ fill: #1a212c }}
"""


class Run(NamedTuple):
    """Characters of one style, and the column where they begin."""

    column: int
    text: str
    styles: tuple


def record(argv, environ):
    """What a command writes to a terminal of 80 columns. It has stderr elsewhere: that is for progress."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    plain = {name: value for name, value in environ.items() if name not in ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE")}
    environ = plain | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environ)
        os.close(theirs)
        written = b""
        try:
            while piece := terminal.read(1 << 16):
                written += piece
        except OSError:
            pass  # so Linux ends it when the command has
        stderr = child.stderr.read().decode(errors="replace").strip()
        child.wait(SECONDS_MAX)
    if child.returncode != 0:
        raise Failure(f"{argv[0]} failed: {stderr}")
    return written.decode().replace("\r\n", "\n").rstrip("\n")


def runs(output):
    """The lines of what was written, each a list of runs."""
    lines, styles = [], ()
    for line in output.split("\n"):
        found, column = [], 0
        for place, part in enumerate(CONTROL.split(line)):
            if place % 2 == 1:
                styles = () if part in RESET else (*styles, *(style(code) for code in part.split(";")))
            elif part:
                if not part.isprintable():
                    raise Failure(f"the recording has a control character that this does not draw: {part!r}")
                found.append(Run(column, part, styles))
                column += len(part)
        if column > COLUMNS:
            raise Failure(f"the recording has a line of {column} columns, and the terminal has {COLUMNS}: {line!r}")
        lines.append(found)
    return lines


def style(code):
    if code not in STYLES:
        raise Failure(f"the recording has a style that this does not draw: {code}")
    return STYLES[code]


def draw(command, output):
    """The SVG of a window in which a command was typed and wrote this."""
    lines = runs(output)
    rows = 1 + len(lines) + 1  # the command, what it wrote, and the next prompt
    screen_width, screen_height = COLUMNS * COLUMN, rows * LINE
    width, height = screen_width + 2 * PADDING, BAR + screen_height + PADDING + ABOVE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{number(width)}" height="{number(height)}"'
        f' viewBox="0 0 {number(width)} {number(height)}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(command)}</title>',
        '<desc id="desc">A recording of a terminal: the command is typed, and its table appears.</desc>',
        f"<style>{STYLE}{animation(len(command), len(lines) + 1)}</style>",
        *window(width, height, " ".join(command.split()[:2])),
        f'<svg x="{PADDING}" y="{BAR + ABOVE}" width="{number(screen_width)}" height="{screen_height}">',
        text(0, 0, PROMPT.rstrip(), "prompt"),
        text(0, len(PROMPT), command, ""),
        f'<g class="typing" opacity="0">{cover(0, len(PROMPT))}{cursor(0)}</g>',
        *(text(row, *word) for row, line in enumerate(lines, 1) for run in line for word in words(run)),
        *rules(lines),
        text(rows - 1, 0, PROMPT.rstrip(), "prompt"),
        cursor(rows - 1),
        f'<g class="output" opacity="0">{cover(1, 0, screen_height)}</g>',
        "</svg></svg>",
    ]
    return "\n".join(parts) + "\n"


def window(width, height, name):
    """The frame, its bar with round corners above, three buttons, and a name."""
    round_by = CORNER - 0.5
    left, right = (f"a{round_by} {round_by} 0 0 1 {round_by} {end}" for end in (-round_by, round_by))
    return [
        f'<rect class="window" x=".5" y=".5" width="{number(width - 1)}" height="{number(height - 1)}" rx="{CORNER}"/>',
        f'<path class="bar" d="M1 {BAR}V{CORNER}{left}H{number(width - 1 - round_by)}{right}V{BAR}z"/>',
        *(
            f'<circle cx="{PADDING + BUTTON + BUTTONS_APART * place}" cy="{BAR // 2}" r="{BUTTON}" fill="{colour}"/>'
            for place, colour in enumerate(BUTTONS)
        ),
        f'<text class="name" x="{number(width / 2)}" y="{BAR // 2 + 5}">{escape(name)}</text>',
    ]


def cover(row, column, height=LINE):
    return f'<rect class="cover" x="{number(column * COLUMN)}" y="{row * LINE}" width="100%" height="{height}"/>'


def cursor(row):
    """The cursor after the prompt."""
    left, top = number(len(PROMPT) * COLUMN), row * LINE + 2
    return f'<rect class="cursor" x="{left}" y="{top}" width="{COLUMN}" height="{CURSOR}"/>'


def words(run):
    """The columns, texts and classes of what is text in a run."""
    without = RULE.sub(lambda rule: " " * len(rule[0]), run.text)
    for found in WORDS.finditer(without):
        yield run.column + found.start(), found[0], " ".join(run.styles)


def text(row, column, content, classes):
    attributes = f' class="{classes}"' if classes else ""
    # The length is what it takes in this many columns, whatever font the reader has.
    length = f' textLength="{number(len(content) * COLUMN)}"' if len(content) > 1 else ""
    return (
        f'<text{attributes} x="{number(column * COLUMN)}" y="{row * LINE + BASELINE}"{length}>{escape(content)}</text>'
    )


def rules(lines):
    """A path for each kind of line and style."""
    paths = {}
    for row, line in enumerate(lines, 1):
        for run in line:
            for found in RULE.finditer(run.text):
                for piece in re.finditer(r"(.)\1*", found[0]):
                    classes = " ".join((RULES[piece[1]], *run.styles))
                    left = number((run.column + found.start() + piece.start()) * COLUMN)
                    moves = f"M{left} {row * LINE + LINE // 2}h{number(len(piece[0]) * COLUMN)}"
                    paths[classes] = paths.get(classes, "") + moves
    return [f'<path class="{classes}" d="{moves}"/>' for classes, moves in paths.items()]


def animation(characters, lines):
    """Covers move off what is typed and off what was written, and at the end of a round back again."""
    at = [f"{moment / ROUND:.2%}" for moment in (TYPE_AT, TYPE_END, RUN_AT, RUN_END)]
    typed, shown = f"translate({number(characters * COLUMN)}px)", f"translate(0, {lines * LINE}px)"
    return f"""@media (prefers-reduced-motion: no-preference) {{
.typing {{ animation: typing {ROUND}ms step-end infinite }}
.output {{ animation: output {ROUND}ms step-end infinite }}
}}
@keyframes typing {{
0% {{ opacity: 1; transform: none }}
{at[0]} {{ opacity: 1; transform: translate(0); animation-timing-function: steps({characters}) }}
{at[1]} {{ opacity: 1; transform: {typed} }}
{at[2]}, 100% {{ opacity: 0; transform: {typed} }}
}}
@keyframes output {{
0% {{ opacity: 1; transform: none }}
{at[2]} {{ opacity: 1; transform: translate(0, 0); animation-timing-function: steps({lines}) }}
{at[3]}, 100% {{ opacity: 1; transform: {shown} }}
}}
"""


def number(value):
    return f"{value:.1f}".removesuffix(".0")
