"""Videos: the renderer is probed in a child process; where none works, one sentence says so."""

import os
import subprocess
import sys

import pytest

from envs import rendering
from maml_rl import main
from tests.conftest import ROOT
from tests.test_train_command import everything, process


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


def test_without_a_renderer_in_a_process(run_copy, work):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['run=run', 'video=true']\n"
        "from envs import rendering\n"
        "from maml_rl import main\n"
        "rendering._PROBE = 'raise SystemExit(1)'\n"
        "main.evaluate_main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work,
        env={**os.environ, "MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: video=true needs a renderer, ")
    assert len(done.stderr.splitlines()) == 1
    assert not (run_copy / "evaluation").exists()


def test_videos_before_and_after_adaptation(renderer, trained_run, run_copy, work):
    options = ("run=run", "video=true", "steps=1", "num_episodes=2", "num_tasks=2", "threads=1")
    run = process(*options, cwd=work, program="evaluate.py")
    out, err = run.communicate(timeout=150)
    assert (run.returncode, err) == (0, "")
    videos = sorted(path.name for path in (run_copy / "evaluation").glob("*.mp4"))
    assert len(videos) == 3
    assert videos.count("before_adaptation.mp4") == 1
    assert sum(name.startswith("after_one_step_goal_") for name in videos) == 2
    assert not list(run_copy.rglob("*.partial*"))
    said = [line for line in out.splitlines() if line.startswith("video: ")]
    assert len(said) == 3
    assert said[0].startswith("video: run/evaluation/before_adaptation.mp4 (return -")
    from imageio_ffmpeg import count_frames_and_secs, read_frames

    path = str(run_copy / "evaluation/before_adaptation.mp4")
    frames, seconds = count_frames_and_secs(path)
    assert frames == 10  # the horizon of the smoke run
    assert seconds == pytest.approx(0.5)  # at 20 frames a second
    reader = read_frames(path)
    assert next(reader)["size"] == (480, 480)
    picture = next(reader)
    reader.close()
    assert len(set(picture)) > 10  # not one colour
