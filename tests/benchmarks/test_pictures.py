"""Pictures of docs/ from trained weights or a renderer are those that today's code draws."""

import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import pictures
from envs.tools.rendering import choose_renderer
from maml_rl.commands.evaluate import evaluate_command
from maml_rl.commands.train import train_command
from maml_rl.runs.data import read_run
from tests.support.paths import ROOT
from tests.support.run_files import png_size

TINY = ("trainer.env_steps=1", "trainer.num_tasks=2", "trainer.num_episodes=2",
        "trainer.validation_tasks=2", "trainer.validation_episodes=1", "env.horizon=20",
        "logger.progress=false", "logger.tensorboard=false")  # fmt: skip
PLACES = ("README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


def words(path):
    """A picture's words, without what depends on how long was trained and evaluated."""
    with Image.open(path) as drawn:
        text = " ".join(drawn.text["Description"].split())
    return re.sub(r"\d+ episodes|\d of \d+|all \d+|iteration \d+", "N", text)


def called_in_process(program, *arguments):
    """Run a command as `pictures.called` does, without the seconds of a process's imports."""
    commands = {"train.py": train_command, "evaluate.py": evaluate_command}
    assert commands[program](arguments) == 0


@pytest.mark.parametrize("name", pictures.RUNS)
def test_pictures_of_trained_runs_have_today_s_panels_and_words(name, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "called", called_in_process)
    pictures.train(name, tmp_path / "run", TINY)
    pictures.draw(name, tmp_path / "run", tmp_path, ("num_episodes=2",))
    drawn = sorted(tmp_path.glob("*.png"))
    shown = {file for files in pictures.RUNS[name].evaluations.values() for file in files.values()}
    assert {path.name for path in drawn} == shown
    for path in drawn:
        kept = pictures.IMAGES / path.name
        assert png_size(path) == png_size(kept), "run `make figures`"
        assert words(path) == words(kept), "run `make figures`"


@pytest.mark.parametrize("name", pictures.RUNS)
def test_the_runs_behind_the_pictures_are_kept(name):
    run = read_run(ROOT / "results" / "pictures" / f"{name}.json")
    given, options = (
        {re.sub(r"(?<=\d)_(?=\d)", "", option) for option in listed}
        for listed in (run.provenance["command"], (*pictures.RUNS[name].options, *pictures.SMALL))
    )
    assert options <= given
    assert run.evaluation.gain.ci95[0] > 0


def test_the_picture_of_tasks_is_what_envs_show_draws(tmp_path):
    if choose_renderer() is None:
        pytest.skip("neither EGL nor OSMesa works here (libegl1 and libgl1, or libosmesa6)")
    pictures.draw_tasks(tmp_path)
    drawn, kept = (
        np.asarray(Image.open(folder / pictures.TASKS).convert("L"), dtype=float)
        for folder in (tmp_path, pictures.IMAGES)
    )
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).mean() < 2  # of 255; renderers differ in edges


def test_every_picture_is_shown_on_a_page():
    text = "".join((ROOT / page).read_text() for page in PLACES)
    shown = set(re.findall(r"images/(\w+\.png)\)", text))
    assert shown == {path.name for path in pictures.IMAGES.glob("*.png")}
