"""The parts of a page: text and data, which templates/blocks.html turns into HTML.

Each class has a macro there under its `kind`. The templates escape every text.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from maml_rl.evaluation.curves import svg


class Block:
    """A part of a page."""

    @property
    def kind(self) -> str:
        """The class's name, by which its macro is chosen."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Section(Block):
    """A heading and what stands below it."""

    key: str  # its id
    name: str
    blocks: Sequence[Block]
    level: int = 2  # of the heading
    style: str = "all"


@dataclass(frozen=True)
class Folded(Block):
    """The sections of one run of several, behind its name."""

    key: str
    name: str
    blocks: Sequence[Block]
    opened: bool


@dataclass(frozen=True)
class Contents(Block):
    """Links to sections, by their ids."""

    names: Mapping[str, str]


@dataclass(frozen=True)
class Status(Block):
    """The state of a run, and a link to its faults."""

    words: str
    faults: str  # how many; empty: none


@dataclass(frozen=True)
class Text(Block):
    """A paragraph."""

    words: str
    style: str = ""  # "good" or "bad"


@dataclass(frozen=True)
class Hint(Block):
    """A paragraph with a command in it."""

    before: str
    call: str
    after: str


@dataclass(frozen=True)
class Facts(Block):
    """A table of names and values."""

    rows: Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """A table's cell of several lines, or a link, or with a style."""

    lines: Sequence[str]
    link: str = ""
    style: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A table with a head."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


@dataclass(frozen=True)
class Bullets(Block):
    """A list."""

    lines: Sequence[str]
    style: str = ""


@dataclass(frozen=True)
class Picture(Block):
    """A picture within the page, and what it shows in words."""

    source: str
    words: str
    captioned: bool = False


@dataclass(frozen=True)
class Film(Block):
    """A film within the page."""

    source: str
    words: str


@dataclass(frozen=True)
class Link(Block):
    """A paragraph that leads to a file."""

    address: str
    words: str


@dataclass(frozen=True)
class Gallery(Block):
    """Films and pictures side by side."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Code(Block):
    """A file's content, folded."""

    name: str
    content: str


def drawn(figure: Figure, words: str) -> Picture:
    """A figure as a picture within the page."""
    return Picture(data_address("image/svg+xml", svg(figure)), words)


def data_address(kind: str, content: bytes) -> str:
    """The address that holds a file's content itself; `kind` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
