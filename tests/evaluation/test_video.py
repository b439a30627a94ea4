"""Videos: the renderer is probed in a child process; where none works, one sentence says so."""

import os
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from envs import UserError
from envs.protocol import TaskDistribution, task_at
from envs.tasks.bandit import MultiArmedBandit
from envs.tasks.classic_control import CartPole
from envs.tasks.random_mdp import RandomMDP
from envs.tools import rendering
from envs.wrappers.held_out import HeldOut
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.union import Union
from maml_rl.algorithm.policies import CategoricalMLP
from maml_rl.algorithm.policies.gaussian import DiagonalGaussian
from maml_rl.commands import main
from maml_rl.evaluation import films as video
from tests.support.films import gif, mp4
from tests.support.paths import ROOT
from tests.support.processes import process
from tests.support.run_files import everything


@pytest.fixture(scope="module")
def renderer():
    """Return a renderer that works here, or skip."""
    for name in rendering.RENDERERS:
        if rendering._renders(name):
            return name
    pytest.skip("neither EGL nor OSMesa works here (libegl1 and libgl1, or libosmesa6)")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], False),
        (["run=x", "video=true"], True),
        (["video=True"], True),
        (["video=auto"], True),
        (["++video=true"], True),
        (["video=false"], False),
        (["video=true", "video=false"], False),
        (["run=video=true"], False),
        (["video=maybe"], False),
    ],
)
def test_whether_a_video_is_wanted(arguments, wanted):
    assert main.wants_video(arguments) is wanted


def test_the_first_renderer_that_works_is_chosen(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "before")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "before")
    monkeypatch.setattr(rendering, "_renders", lambda name: name == "osmesa")
    assert rendering.choose_renderer() == "osmesa"
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "osmesa"
    monkeypatch.setattr(rendering, "_renders", lambda name: True)
    assert rendering.choose_renderer() == "egl"
    assert os.environ["MUJOCO_GL"] == "egl"


def test_a_renderer_set_by_hand_that_does_not_work_is_not_believed(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(rendering, "_renders", lambda name: False)
    assert rendering.choose_renderer() is None
    assert "MUJOCO_GL" not in os.environ


def test_a_probe_that_fails_or_hangs_means_no(monkeypatch):
    monkeypatch.setattr(rendering, "_PROBE", "raise SystemExit(1)")
    assert not rendering._renders("egl")
    monkeypatch.setattr(rendering, "_PROBE", "import os; assert os.environ['MUJOCO_GL'] == 'egl'")
    assert rendering._renders("egl")
    assert not rendering._renders("osmesa")

    def hang(*arguments, **options):
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert not rendering._renders("egl")


def test_without_a_renderer_the_sentence_names_the_packages(
    run_copy, evaluate_cli, work, monkeypatch
):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    before = everything(work)
    outcome = evaluate_cli("run=run", "video=true")
    assert outcome.status == 2
    assert outcome.error == (
        "error: video=true needs a renderer, and neither EGL nor OSMesa works here: install the "
        "system packages libegl1 and libgl1, or libosmesa6 (Debian's names)."
    )
    assert everything(work) == before


def without_renderer(*arguments, cwd):
    """Run evaluate.py in a process in which no renderer works; a second try there would end it."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = {list(arguments)!r}\n"
        "from envs.tools import rendering\n"
        "from maml_rl.commands import main\n"
        "rendering._PROBE = 'raise SystemExit(1)'\n"
        "main.evaluate_main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_renderer_in_a_process(run_copy, work):
    done = without_renderer("run=run", "video=true", cwd=work)
    assert done.returncode == 2
    assert done.stderr.startswith("error: video=true needs a renderer, ")
    assert len(done.stderr.splitlines()) == 1
    assert not (run_copy / "evaluation").exists()


def test_without_a_renderer_a_film_if_possible_is_left_out(run_copy, work):
    sizes = ("num_episodes=2", "steps=1", "threads=1")
    done = without_renderer("run=run", "video=auto", *sizes, cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    (note,) = [line for line in done.stdout.splitlines() if "no film" in line]
    assert note == (
        "note: no film: video=auto needs a renderer, and neither EGL nor OSMesa works here: "
        "install the system packages libegl1 and libgl1, or libosmesa6 (Debian's names)."
    )
    assert (run_copy / "evaluation/evaluation.json").is_file()
    assert not list(run_copy.rglob("*.mp4"))


class Room(gymnasium.Env):
    """Pays its action; the picture is a grey, lighter with every step; ends after `length`."""

    metadata = {"render_fps": 10}  # noqa: RUF012

    def __init__(self, length, size):
        self.length, self.size = length, size

    def reset(self, *, seed=None, options=None):
        self.steps, self.start = 0, np.random.default_rng(seed).uniform()
        return np.full(1, self.start), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps >= self.length
        return np.full(1, self.start), float(action[0]), ended, False, {}

    def render(self):
        return np.full((*self.size, 3), 10 * self.steps, dtype=np.uint8)


class Rooms(TaskDistribution):
    """A task is how long its episode lasts for a policy of each stage, in turn."""

    name = "rooms"
    horizon = 9
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, lengths, size=(300, 301)):
        self.lengths, self.size = iter(lengths), size

    def describe(self, task):
        return "the small one"

    def sample(self, num_tasks, rng):
        return {"room": np.zeros(num_tasks)}

    def make(self, num_tasks, slots_per_task, threads=1):
        raise NotImplementedError("films are of single environments")

    def single(self, task, render_mode):
        return Room(next(self.lengths), self.size)


class Remembering:
    """A policy whose mean action is its parameter less the number of steps it remembers."""

    def initial_state(self, num_tasks, slots):
        return torch.zeros(num_tasks, slots)

    def distribution(self, params, observations, state, first):
        assert first.tolist() == [[[1.0 if state == 0 else 0.0]]]
        mean = (params["mean"] - state)[:, None, :, None]
        return DiagonalGaussian(mean, torch.full_like(mean, 0.2)), None, state + 1


def small_mdp():
    return RandomMDP(states=2, actions=2, horizon=2)


def stages(*means):
    return {f"stage {index}": {"mean": torch.tensor([[mean]])} for index, mean in enumerate(means)}


@pytest.fixture
def said(monkeypatch):
    """What was written with the pictures, frame by frame: captions, title, width of the sheet."""
    written = []

    def side_by_side(pictures, captions, title):
        sheet = own(pictures, captions, title)
        written.append((captions, title, sheet.shape[1]))
        return sheet

    own = video.side_by_side
    monkeypatch.setattr(video, "side_by_side", side_by_side)
    return written


def test_a_film_has_every_step_of_the_longest_episode(tmp_path, said):
    path = tmp_path / "film.mp4"
    # means 1, 0, -1 -> applied as they are; 0.5, -0.5, -1.5, -2.5 -> clipped at -1
    returns = video.record(path, Rooms([3, 4]), {}, Remembering(), stages(1.0, 0.5), 0)
    assert returns == [0.0, -2.0]
    assert [captions for captions, _, _ in said] == [
        [["stage 0", "step 0, return 0.000"], ["stage 1", "step 0, return 0.000"]],
        [["stage 0", "step 1, return 1.00"], ["stage 1", "step 1, return 0.50"]],
        [["stage 0", "step 2, return 1.00"], ["stage 1", "step 2, return 0.00"]],
        [["stage 0", "step 3, return 0.00"], ["stage 1", "step 3, return -1.00"]],
        [["stage 0", "step 3, return 0.00, ended"], ["stage 1", "step 4, return -2.00"]],
    ]
    assert {title for _, title, _ in said} == {"rooms, the small one (mean actions)"}
    assert count_frames_and_secs(str(path)) == (5, pytest.approx(0.5))
    # letters of 301 // 20 = 15 pixels make lines of 21: a title and two lines, three gaps of 8;
    # two pictures of 301 and three gaps are 626 wide
    height, width = 300 + 3 * 21 + 3 * 8, 2 * 301 + 3 * 8
    shown = mp4(path, height + height % 2, width).astype(float)
    greys = [[frame[150, left].mean() for left in (150, 450)] for frame in shown]
    expected = [[0, 0], [10, 10], [20, 20], [30, 30], [30, 40]]
    assert np.abs(np.array(greys) - expected).max() < 3  # the codec is not exact
    _, durations = gif(path.with_suffix(".gif"))
    assert durations == [100, 100, 100, 100, 1000]
    assert sorted(own.name for own in tmp_path.iterdir()) == ["film.gif", "film.mp4"]


def test_the_gif_of_a_long_film_keeps_some_frames_and_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "GIF_FRAMES", 4)
    path = tmp_path / "film.mp4"
    video.record(path, Rooms([9]), {}, Remembering(), stages(0.5), 0)
    # a horizon of 9 is 10 frames; every third: 0, 3, 6, 9
    frames, durations = gif(path.with_suffix(".gif"))
    assert [int(frame[100, 100, 0]) for frame in frames] == pytest.approx([0, 30, 60, 90], abs=2)
    assert durations == [300, 300, 300, 1000]
    assert frames[0].shape[1] == 301 + 16
    video.record(path, Rooms([8]), {}, Remembering(), stages(0.5), 0)
    frames, _ = gif(path.with_suffix(".gif"))  # 9 frames: 0, 3, 6 and the last
    assert [int(frame[100, 100, 0]) for frame in frames] == pytest.approx([0, 30, 60, 80], abs=2)


def test_small_pictures_are_enlarged_until_captions_fit(tmp_path):
    path = tmp_path / "film.mp4"
    video.record(path, Rooms([2], size=(60, 84)), {}, Remembering(), stages(0.5), 0)
    # 84 three times is 252; letters of 12 make lines of 17: title, two lines; 268 wide
    height = 3 * 60 + 3 * 17 + 3 * 8
    assert mp4(path, height + height % 2, 252 + 16).shape[0] == 3


def test_small_losses_have_no_negative_zero():
    moment = video.Moment(np.zeros((1, 1, 3)), -0.04, 3)
    assert video._score(moment, "{:.1f}") == "step 3, return 0.0"
    assert video._score(moment, "{:.3f}") == "step 3, return -0.040"


def test_a_film_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(Room, "render", lambda self: [][self.steps])
    with pytest.raises(UserError, match="rooms cannot be drawn"):
        video.record(tmp_path / "film.mp4", Rooms([2]), {}, Remembering(), stages(0.5), 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("build", "width"),
    [
        (lambda: MultiArmedBandit(horizon=2), 400),
        (lambda: small_mdp(), 400),
        (lambda: TaskObserved(small_mdp()), 400),
        (lambda: HeldOut(small_mdp(), small_mdp()), 400),
        (lambda: Union([small_mdp(), small_mdp()]), 400),
        (lambda: CartPole(horizon=2), 600),
    ],
    ids=["bandit", "mdp", "task_observed", "held_out", "union", "cart_pole"],
)
def test_every_kind_of_distribution_is_filmed(build, width, tmp_path, said):
    distribution = build()
    task = task_at(distribution.sample(1, np.random.default_rng(0)), 0)
    policy = CategoricalMLP(
        distribution.observation_space.shape[0], int(distribution.action_space.n), [4]
    )
    params = [
        {
            name: leaf[None]
            for name, leaf in policy.initialize(torch.Generator().manual_seed(seed)).items()
        }
        for seed in (1, 2)
    ]
    own = {"before adaptation": params[0], "after 1 step": params[1], "again": params[0]}
    path = tmp_path / "film.mp4"
    returns = video.record(path, distribution, task, policy, own, 3)
    assert returns[0] == returns[2]  # the same policy from the same state meets the same chance
    assert len(said) == 3
    captions, title, sheet = said[-1]
    assert title.endswith("(most likely actions)")
    stage, score = captions[1]
    assert (stage, score.rpartition(" ")[0]) == ("after 1 step", "step 2, return")
    assert float(score.rpartition(" ")[2]) == pytest.approx(returns[1], abs=0.005)
    assert sheet == 3 * width + 4 * 8
    assert count_frames_and_secs(str(path))[0] == 3
    with Image.open(path.with_suffix(".gif")) as film:
        assert film.size[0] == video.GIF_WIDTH


def test_no_patches_darken_the_floor(renderer):
    # 36 % of the pixels in this part of the floor are black; a shadow map darkened 53 %
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import mujoco, numpy as np\n"
        "from envs import HalfCheetahDir\n"
        "task = {'direction': np.array(-1.0)}\n"
        "env = HalfCheetahDir().single(task, render_mode='rgb_array', width=400, height=400)\n"
        "env.reset(seed=0)\n"
        "env.data.qpos[0] = -2.1\n"
        "mujoco.mj_forward(env.model, env.data)\n"
        "floor = env.render()[136:160, 300:384].mean(axis=2)\n"
        "env.close()\n"
        "print((floor < 25).mean())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": renderer},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(0.36, abs=0.06)


def test_videos_before_and_after_adaptation(renderer, trained_run, run_copy, work):
    options = ("run=run", "video=true", "steps=2", "num_episodes=2", "num_tasks=2", "threads=1")
    run = process(*options, cwd=work, program="evaluate.py")
    out, err = run.communicate(timeout=150)
    assert (run.returncode, err) == (0, "")
    folder = run_copy / "evaluation"
    names = sorted(path.stem for path in folder.glob("*.mp4"))
    assert [name.rpartition("_goal_")[0] for name in names] == ["video_1", "video_2"]
    assert sorted(path.stem for path in folder.glob("*.gif")) == names
    assert not list(run_copy.rglob("*.partial*"))
    lines = [line for line in out.splitlines() if line.startswith("video: ")]
    films = [line for line in out.splitlines() if line.startswith("film ")]
    assert [line.partition(": goal")[0] for line in films] == ["film 1 of 2", "film 2 of 2"]
    tenths = " ".join(f"{10 * tenth} %" for tenth in range(1, 11))
    assert all(line.endswith(f"): {tenths}") for line in films)
    number = r"-?\d+\.\d+"
    for line, name in zip(lines, names, strict=True):
        assert re.fullmatch(
            rf"video: run/evaluation/{re.escape(name)}.mp4 and .gif \(return of the mean action: "
            rf"{number} before adaptation, {number} after 1 step, {number} after 2 steps\)",
            line,
        )
    path = folder / f"{names[0]}.mp4"
    # the horizon of the smoke run is 10, and its initial state; 20 frames a second
    assert count_frames_and_secs(str(path)) == (11, pytest.approx(0.55))
    # three pictures of 400; letters of 20 make lines of 28
    height, width = 400 + 3 * 28 + 3 * 8, 3 * 408 + 8
    frame = mp4(path, height, width)[0]
    pictures = [frame[36:436, 8 + 408 * index :][:, :400] for index in range(3)]
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) > 10  # not one colour
    for other in pictures[1:]:  # the same initial state
        assert np.abs(other.astype(int) - pictures[0]).mean() < 2
