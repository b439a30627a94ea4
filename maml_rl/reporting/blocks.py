"""The parts of a page as HTML, by the macros of templates/blocks.html, which escape every text."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from maml_rl.evaluation.curves import svg

TEMPLATES = Environment(
    loader=PackageLoader("maml_rl.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
HTML: Any = TEMPLATES.get_template("blocks.html").module
"""The macros by their names: each takes texts and other parts, and gives a `Markup`."""


def drawn(figure: Figure, words: str) -> Markup:
    """A figure as a picture within the page, and what it shows in words."""
    return Markup(HTML.picture(data_address("image/svg+xml", svg(figure)), words))


def data_address(kind: str, content: bytes) -> str:
    """The address that holds a file's content itself; `kind` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
