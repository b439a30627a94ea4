"""The parts of a page: text and data, which templates/blocks.html turns into HTML.

Each class has a macro there under its `kind`. The templates escape every text.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from maml_rl.evaluation.curves import svg


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    kind: ClassVar[str] = "section"
    key: str  # its id
    name: str
    blocks: Sequence[Block]
    level: int = 2  # of the heading
    style: str = "all"


@dataclass(frozen=True)
class Folded:
    """The sections of one run of several, behind its name."""

    kind: ClassVar[str] = "folded"
    key: str
    name: str
    blocks: Sequence[Block]
    opened: bool


@dataclass(frozen=True)
class Contents:
    """Links to sections, by their ids."""

    kind: ClassVar[str] = "contents"
    names: Mapping[str, str]


@dataclass(frozen=True)
class Status:
    """The state of a run, and a link to its faults."""

    kind: ClassVar[str] = "status"
    words: str
    faults: str  # how many; empty: none


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    words: str
    style: str = ""  # "good" or "bad"


@dataclass(frozen=True)
class Hint:
    """A paragraph with a command in it."""

    kind: ClassVar[str] = "hint"
    before: str
    call: str
    after: str


@dataclass(frozen=True)
class Facts:
    """A table of names and values."""

    kind: ClassVar[str] = "facts"
    rows: Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """A table's cell of several lines, or a link, or with a style."""

    lines: Sequence[str]
    link: str = ""
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a head."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


@dataclass(frozen=True)
class Bullets:
    """A list."""

    kind: ClassVar[str] = "bullets"
    lines: Sequence[str]
    style: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture within the page, and what it shows in words."""

    kind: ClassVar[str] = "picture"
    source: str
    words: str
    captioned: bool = False


@dataclass(frozen=True)
class Film:
    """A film within the page."""

    kind: ClassVar[str] = "film"
    source: str
    words: str


@dataclass(frozen=True)
class Link:
    """A paragraph that leads to a file."""

    kind: ClassVar[str] = "link"
    address: str
    words: str


@dataclass(frozen=True)
class Gallery:
    """Films and pictures side by side."""

    kind: ClassVar[str] = "gallery"
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Code:
    """A file's content, folded."""

    kind: ClassVar[str] = "code"
    name: str
    content: str


Block = (
    Section
    | Folded
    | Contents
    | Status
    | Text
    | Hint
    | Facts
    | Table
    | Bullets
    | Picture
    | Film
    | Link
    | Gallery
    | Code
)


def drawn(figure: Figure, words: str) -> Picture:
    """A figure as a picture within the page."""
    return Picture(data_address("image/svg+xml", svg(figure)), words)


def data_address(kind: str, content: bytes) -> str:
    """The address that holds a file's content itself; `kind` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
