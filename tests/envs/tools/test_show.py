"""`python -m envs.show`: pictures and films of tasks."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from envs import UserError
from envs.protocol import task_at
from envs.registry import build
from envs.tools import rendering, show
from envs.tools.arguments import status_of
from tests.support.paths import ROOT


class Painted:
    """A Gymnasium environment whose picture is one grey, lighter with every step."""

    metadata = {"render_fps": 10}  # noqa: RUF012

    def __init__(self, level, size, length):
        self.level, self.size, self.length = level, size, length

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1), 0.0, self.t >= self.length, False, {}

    def render(self):
        return np.full((self.size, self.size, 3), self.level + self.t, dtype=np.uint8)

    def close(self):
        pass


class Paintings(type(build("random_mdp"))):
    """Tasks are levels of grey, and how long an episode lasts."""

    def sample(self, num_tasks, rng):
        return {"level": np.arange(num_tasks) * 50, "length": np.full(num_tasks, 3)}

    def describe(self, task):
        return f"level {task['level']}"

    def single(self, task=None, render_mode=None, width=480, height=480):
        return Painted(int(task["level"]), width, int(task["length"]))


def in_a_process(*arguments, folder):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def run(work, capsys, monkeypatch):
    monkeypatch.setattr(show, "choose_renderer", lambda: None)

    def call(*arguments):
        status = status_of(lambda: show.show_command(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err.splitlines()

    call.folder = work
    return call


def test_a_film_shows_every_task_side_by_side_and_keeps_an_ended_ones_last_picture():
    tasks = Paintings().sample(2, None)
    frames, rate = show.film(Paintings(horizon=9), tasks, 5, 100, 0)
    assert (len(frames), rate) == (6, 10)
    # two pictures of 100 pixels, 8 pixels before, between and after; below them one line of caption
    assert frames[0].shape == (100 + 3 * 8 + round(1.4 * 11), 2 * 108 + 8, 3)
    greys = [[int(frame[8 + 50, left + 50, 0]) for left in (8, 116)] for frame in frames]
    assert greys == [[0, 50], [1, 51], [2, 52], [3, 53], [3, 53], [3, 53]]
    caption = frames[0][8 + 100 :]
    assert (caption < 100).any()
    assert (caption[:, 108:116] == 255).all()  # what is between them stays white


def test_pictures_of_a_distribution_without_physics(run):
    status, out, err = run("multi_armed_bandit", "num_tasks=3", "size=200", "steps=2", "arms=4")
    assert (status, err) == (0, [])
    assert out == "3 tasks of multi_armed_bandit: multi_armed_bandit.png\n"
    with Image.open(run.folder / "multi_armed_bandit.png") as picture:
        assert picture.size[0] == 3 * 208 + 8
        assert len(picture.getcolors(maxcolors=100_000)) > 10
    assert [path.name for path in run.folder.iterdir()] == ["multi_armed_bandit.png"]


def test_films_are_written_as_gif_and_mp4(run):
    options = ("random_mdp", "num_tasks=2", "size=201", "steps=3")
    assert run(*options, "out=own.gif")[0] == 0
    with Image.open(run.folder / "own.gif") as film:
        assert film.n_frames == 4
        assert film.info["duration"] == 200  # ms: five a second
    assert run(*options, "out=own.mp4")[0] == 0
    from imageio_ffmpeg import count_frames_and_secs

    frames, seconds = count_frames_and_secs(str(run.folder / "own.mp4"))
    assert (frames, seconds) == (4, pytest.approx(0.8))


def test_few_tasks_are_shown_once_each():
    drawn = show.some_tasks(build("half_cheetah_dir"), 4, np.random.default_rng(0))
    assert drawn["direction"].tolist() == [1.0, -1.0]
    assert show.some_tasks(build("half_cheetah_dir"), 1, np.random.default_rng(0))[
        "direction"
    ].tolist() == [1.0]
    other = show.some_tasks(build("half_cheetah_vel"), 3, np.random.default_rng(5))["velocity"]
    assert np.array_equal(other, np.random.default_rng(5).uniform(0.0, 2.0, size=3))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "error: give one name or target, and there is none"),
        (["ant_gaol"], "Did you mean ant_goal?"),
        (["random_mdp", "out=own.jpg"], "error: out=own.jpg must end in .png, .mp4, .gif."),
        (["random_mdp", "out=no/own.png"], "error: out=no/own.png: there is no folder no."),
        (["random_mdp", "num_tasks=0"], "error: num_tasks must be a whole number of at least 1"),
        (["random_mdp", "size=3"], "error: size must be a whole number of at least 64, not 3."),
    ],
)
def test_wrong_input_is_one_sentence_and_2(run, arguments, sentence):
    status, out, err = run(*arguments)
    assert (status, out, len(err)) == (2, "", 1)
    assert sentence in err[0]
    assert not list(run.folder.iterdir())


def test_what_cannot_be_drawn_is_one_sentence(monkeypatch):
    tasks = Paintings().sample(2, None)
    monkeypatch.delattr(Paintings.__mro__[2], "single")
    monkeypatch.delattr(Paintings, "single")
    with pytest.raises(UserError, match="paintings has no Gymnasium form, which pictures"):
        show.film(Paintings(), tasks, 1, 100, 0)


@pytest.mark.parametrize(
    ("render", "sentence"),
    [
        (lambda self: None, r"single\(task, render_mode='rgb_array'\).render\(\) must return an"),
        (lambda self: [][1], r"paintings cannot be drawn \(IndexError: list index out of range\)"),
    ],
)
def test_a_picture_that_is_none_is_one_sentence(monkeypatch, render, sentence):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(Painted, "render", render)
    with pytest.raises(UserError, match=sentence):
        show.film(Paintings(), Paintings().sample(2, None), 1, 100, 0)


def test_without_a_renderer_the_sentence_names_the_packages(work):
    code = (
        "import sys; sys.argv[1:] = ['point_navigation', 'steps=0']\n"
        "from envs.tools import arguments as commands\n"
        "from envs.tools import rendering\n"
        "from envs.tools import show\n"
        "rendering._PROBE = 'raise SystemExit(1)'\n"
        "commands.run(show.show_command)\n"
    )
    done = in_a_process("-c", code, folder=work)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: showing point_navigation {rendering.NO_RENDERER}\n"
    assert not list(work.iterdir())


def test_actions_are_an_untrained_policys_scaled():
    cheetah = build("half_cheetah_vel")
    drawn = np.random.default_rng(3).standard_normal(6).astype(np.float32)
    assert np.allclose(show._action(cheetah, np.random.default_rng(3)), np.clip(0.1 * drawn, -1, 1))
    assert show._action(build("random_mdp"), np.random.default_rng(3)) in range(5)


def test_goals_are_drawn_in_a_process_of_its_own(work):
    if not any(rendering._renders(name) for name in rendering.RENDERERS):
        pytest.skip("neither EGL nor OSMesa works here (libegl1 and libgl1, or libosmesa6)")
    options = ("point_navigation", "num_tasks=2", "steps=0", "size=128", "seed=1")
    done = in_a_process("-m", "envs.show", *options, folder=work)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 tasks of point_navigation: point_navigation.png\n"
    with Image.open(work / "point_navigation.png") as picture:
        pixels = np.asarray(picture).astype(int)
    tasks = show.some_tasks(build("point_navigation"), 2, np.random.default_rng(1))
    for index in range(2):
        part = pixels[8:136, 8 + 136 * index : 136 + 136 * index]
        green = np.argwhere(part[..., 1] > part[..., [0, 2]].max(-1) + 40)
        x, y = task_at(tasks, index)["goal"]
        row, column = green.mean(0) - 63.5
        assert np.sign([column, -row]).tolist() == np.sign([x, y]).tolist()
