"""docs/learning_maml.md: the numbers and the listing are those of the command that draws it."""

import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import learning_maml
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "learning_maml.md").read_text()
TEXT, PRINTED = PAGE.split("## What the command prints")
DRAWN = ("objectives", "gradients", "training")


@pytest.fixture(scope="module")
def thetas():
    return learning_maml.trained()


@pytest.fixture(scope="module")
def numbers(thetas):
    return learning_maml.numbers(thetas)


def test_the_command_draws_the_figures_and_prints_the_page_s_last_listing(
    tmp_path, capsys, monkeypatch, thetas
):
    monkeypatch.setattr(learning_maml, "trained", lambda: thetas)
    learning_maml.main(tmp_path)
    printed = capsys.readouterr().out
    assert [line.rstrip() for line in printed.splitlines()] == [
        line for line in PRINTED.strip().splitlines() if line != "```"
    ]
    names = {f"learning_maml_{name}.png" for name in DRAWN}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(f"images/{name}" in TEXT for name in names)
    for name in names:
        drawn, shown = (Image.open(folder / name) for folder in (tmp_path, learning_maml.IMAGES))
        assert drawn.size == shown.size
        assert drawn.text["Description"] == shown.text["Description"], "run `make figures`"


def test_every_number_with_a_unit_of_a_hundredth_in_the_text_is_computed(numbers):
    quoted = set(re.findall(r"-?\d+\.\d\d\b", TEXT))
    assert len(quoted) >= 10
    assert quoted <= {f"{value:.2f}" for value in numbers.values()}


def test_the_returns_of_the_half_cheetah_are_those_of_the_results():
    results = (ROOT / "docs" / "results.md").read_text()
    first_run = [row for row in results.splitlines() if row.startswith("| seed 0 | ")][:2]
    means = [re.search(r"(-?\d+\.\d) \[", row).group(1) for row in first_run]
    assert means == ["-8.8", "309.8"]
    assert f"its return is {means[0]}, after one step {means[1]}." in " ".join(TEXT.split())


def test_the_loop_is_the_one_that_runs():
    (listing,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert listing in (ROOT / "benchmarks" / "learning_maml.py").read_text()


@pytest.mark.parametrize("theta", [-0.7, 0.2, 0.5, 0.9])
def test_the_inner_loop_has_the_slope_that_the_formula_has(theta):
    # J' = J (g - t) / s^2, J'' = J ((g - t)^2 / s^4 - 1 / s^2), with w = sigma = 0.5: s^2 = 0.5
    exact, first_order = 0.0, 0.0
    for goal in (-1.0, 1.0):
        value = np.sqrt(0.5) * np.exp(-((theta - goal) ** 2))
        slope, curvature = value * (goal - theta) * 2, value * ((goal - theta) ** 2 * 4 - 2)
        moved = theta + 2 * slope
        outer = np.sqrt(0.5) * np.exp(-((moved - goal) ** 2)) * (goal - moved) * 2
        exact += outer * (1 + 2 * curvature) / 2
        first_order += outer / 2
    assert learning_maml.meta_gradient(theta) == pytest.approx(exact, abs=1e-6)
    assert learning_maml.meta_gradient(theta, "dice") == pytest.approx(exact, abs=1e-6)
    for options in ({"first_order": True}, {"loss": "log_likelihood"}):
        found = learning_maml.meta_gradient(theta, **options)
        assert found == pytest.approx(first_order, abs=1e-6)
