"""YAML as configurations have it: 1e-3 is a number, a date is a text."""

from __future__ import annotations

import re
from typing import Any

import yaml

EXPONENT = re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """PyYAML's, with numbers such as 1e-3 and without dates."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which quotes the texts that `_Loader` would read as numbers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


def from_yaml(text: str) -> Any:
    """The value that a text describes.

    Raises:
        ValueError: if the text is no YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("it cannot be read as YAML") from error


def to_yaml(value: Any) -> str:
    """Text of a value made of dictionaries, lists, texts, numbers, truth values and None.

    Raises:
        ValueError: if there is something else in the value.
    """
    try:
        text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise ValueError("it cannot be written as YAML") from error
    return text
