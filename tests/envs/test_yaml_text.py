"""YAML is read as OmegaConf, which composes the configurations, reads and writes it."""

import math

import pytest
from omegaconf import OmegaConf

from envs.yaml_text import from_yaml, to_yaml

TEXTS = ["1e-3", "1e3", "-2.5E+4", "+1e2", "1.5", "3", "0x10", "1_000", ".inf", "null", "~", "",
         "true", "yes", "2026-11-29", "12:30", "a: {b: [1, 2e-5], c: '1e3'}", "'1e-3'", "[]",
         "{}", "1e", "e3", "1.e2", "text with: {x: 1}", "\u00e4"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read_as_omegaconf_reads_them(text):
    expected = OmegaConf.from_dotlist([f"value={text}"])["value"]
    if OmegaConf.is_config(expected):
        expected = OmegaConf.to_container(expected)
    value = from_yaml(text)
    assert (value, type(value)) == (expected, type(expected))


def test_what_is_written_is_read_again_by_both():
    values = {
        "b": [1, 2.5, 1e-5, 1e20, -math.inf, True, None, "1e3", "1e-3", "3", "true", "null", ""],
        "a": {
            "text": "a: b # c",
            "path": "x/y.xml",
            "date": "2026-11-29",
            "unicode": "\u00e4 \u03b8",
        },
    }  # fmt: skip
    text = to_yaml(values)
    assert list(from_yaml(text)) == ["b", "a"]
    assert from_yaml(text) == values
    assert OmegaConf.to_container(OmegaConf.create(text)) == values


@pytest.mark.parametrize("text", ["{:", "[1", "a: b: c", "\x00", "!!python/object:os.system {}"])
def test_what_is_no_yaml_is_refused(text):
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        from_yaml(text)
    with pytest.raises(ValueError, match="cannot be written"):
        to_yaml({"a": object()})
