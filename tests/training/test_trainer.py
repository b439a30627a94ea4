"""The training loop: what it reports and keeps, when it stops, and that resuming is exact."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch

from envs import PointNavigation, UserError
from maml_rl.configuration.building import build_trainer
from maml_rl.configuration.stored import stored_config
from maml_rl.errors import NonFiniteError
from maml_rl.randomness import Key, Purpose
from maml_rl.runs.folder import RunFolder
from maml_rl.training.stop import StopRequest
from maml_rl.training.trainer import Trainer
from tests.support.run_files import assert_same_meta, load, read_metrics, repeatable
from tests.support.smoke import go_on, smoke_config, train_smoke, trainer

KEYS = {
    *("iteration", "env_steps", "seconds", "seconds/sampling", "seconds/outer_loop"),
    *("return/step_0", "return/step_1", "adaptation_gain", "outer/loss", "outer/kl"),
    *("outer/accepted", "inner/grad_norm", "policy/std"),
}


def test_the_metrics_are_those_the_design_lists(tmp_path):
    train_smoke(tmp_path, "inner.steps=2", "trainer.iterations=3", "trainer.validate_every=2")
    lines = read_metrics(tmp_path)
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line.keys() >= KEYS | {"return/step_2"}
        assert all(isinstance(value, int | float) for value in line.values())
        assert all(np.isfinite(value) for value in line.values())
        gain = line["return/step_2"] - line["return/step_0"]
        assert line["adaptation_gain"] == pytest.approx(gain, abs=1e-12)
        validation = {name for name in line if name.startswith("validation/")}
        expected = {f"validation/return/step_{step}" for step in (0, 1, 2)}
        assert validation == (expected if line["iteration"] == 2 else set())
    steps = [line["env_steps"] for line in lines]
    # each iteration: 3 collections of 2 tasks x 2 episodes x at most 10 steps
    assert all(0 < step <= 120 for step in np.diff([0, *steps]))
    assert np.all(np.diff([line["seconds"] for line in lines]) > 0)


def test_trpo_keeps_its_bound(tmp_path):
    train_smoke(tmp_path, "trainer.iterations=4", "outer.max_kl=0.005")
    accepted = [line for line in read_metrics(tmp_path) if line["outer/accepted"]]
    assert accepted
    for line in accepted:
        assert 0 < line["outer/kl"] <= 0.005
        assert line["outer/loss_after"] < line["outer/loss"]


def test_the_returns_are_those_of_the_stored_rewards(tmp_path):
    """With a horizon of 1, a return is minus one distance, at most sqrt(2) * 0.6."""
    metrics = train_smoke(tmp_path, "env.horizon=1", "trainer.iterations=1")
    assert metrics["env_steps"] == 2 * 2 * 2
    assert -0.85 <= metrics["return/step_0"] < 0
    assert -0.85 <= metrics["return/step_1"] < 0


def test_checkpoints_best_last_and_numbered(tmp_path):
    train_smoke(tmp_path, "trainer.iterations=5")
    folder = tmp_path / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["best.pt", "iteration_000002.pt", "iteration_000004.pt", "last.pt"]
    scores = [line["validation/return/step_1"] for line in read_metrics(tmp_path)]
    best = load(folder / "best.pt")
    assert best["iteration"] == 1 + int(np.argmax(scores))
    assert best["best_validation"] == max(scores)
    last = load(folder / "last.pt")
    assert last["iteration"] == 5
    assert last["metrics_bytes"] == (tmp_path / "metrics.jsonl").stat().st_size
    assert last["env_steps"] == read_metrics(tmp_path)[-1]["env_steps"]
    assert load(folder / "iteration_000004.pt")["iteration"] == 4


def test_the_best_checkpoint_is_by_success_where_that_is_the_measure(tmp_path, monkeypatch):
    rates = [0.25, 0.5, 0.5, 0.25]  # of the two at 0.5, the later one has trained for longer
    validate = Trainer.validate

    def validated(self, progress):
        rate = {"validation/success/step_1": rates[progress.iteration - 1]}
        return validate(self, progress) | rate

    monkeypatch.setattr(Trainer, "validate", validated)
    monkeypatch.setattr(PointNavigation, "measure", "success", raising=False)
    chosen = {"named": (), "return": ("trainer.best_by=return",)}
    for name, options in chosen.items():
        train_smoke(tmp_path / name, "trainer.iterations=4", *options)
    best = load(tmp_path / "named/checkpoints/best.pt")
    assert (best["iteration"], best["best_validation"]) == (3, 0.5)
    scores = [line["validation/return/step_1"] for line in read_metrics(tmp_path / "return")]
    best = load(tmp_path / "return/checkpoints/best.pt")
    assert (best["iteration"], best["best_validation"]) == (1 + int(np.argmax(scores)), max(scores))


def test_what_picks_the_best_checkpoint_is_recorded_or_refused(tmp_path):
    assert trainer(tmp_path).measure == "return"
    with pytest.raises(UserError, match=r"trainer.best_by=success: point_navigation records no s"):
        trainer(tmp_path, "trainer.best_by=success")
    with pytest.raises(UserError, match="best_by=reward is unknown; choose one of return, success"):
        trainer(tmp_path, "trainer.best_by=reward")
    recorded = ("env=point_navigation_half_circle", "trainer.best_by=success")
    assert trainer(tmp_path, *recorded).measure == "success"


def test_a_run_from_before_the_choice_goes_on_by_return(tmp_path, monkeypatch):
    train_smoke(tmp_path, "trainer.iterations=1")
    file = tmp_path / ".hydra/config.yaml"
    file.write_text(file.read_text().replace("  best_by: null\n", ""))
    monkeypatch.setattr(PointNavigation, "measure", "success", raising=False)
    assert build_trainer(stored_config(RunFolder(tmp_path)), tmp_path).measure == "return"


def test_a_run_starts_with_its_tasks_and_a_checkpoint(tmp_path):
    run = trainer(tmp_path, "trainer.test_tasks=6")
    progress = run.begin()
    assert load(tmp_path / "checkpoints/last.pt")["iteration"] == 0
    assert (progress.iteration, progress.env_steps, progress.best_validation) == (0, 0, None)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert (len(tasks["validation"]["goal"]), len(tasks["test"]["goal"])) == (2, 6)
    assert json.loads((tmp_path / "provenance.json").read_text())["sampler_threads"] == 1
    assert tasks["test"]["goal"][:2] != tasks["validation"]["goal"]


def test_stored_tasks_are_the_seed_s_and_finite_ones_come_in_equal_counts(tmp_path):
    one, other = trainer(tmp_path, "seed=1"), trainer(tmp_path, "seed=2")
    assert np.array_equal(one.splits.test["goal"], trainer(tmp_path, "seed=1").splits.test["goal"])
    assert not np.array_equal(one.splits.test["goal"], other.splits.test["goal"])
    cheetah = trainer(tmp_path, "env=half_cheetah_dir")
    assert list(cheetah.splits.test["direction"]) == [1.0, -1.0, 1.0, -1.0]
    odd = trainer(tmp_path, "env=half_cheetah_dir", "trainer.test_tasks=3")
    assert list(odd.splits.test["direction"]) == [1.0, -1.0, 1.0, -1.0]
    assert odd.notes == [
        "test_tasks=3 is rounded up to 4: half_cheetah_dir has 2 tasks, which are stored "
        "in equal counts."
    ]


def test_balanced_sampling_covers_each_iteration_s_directions(tmp_path):
    options = ["env=half_cheetah_dir", "trainer.num_tasks=4", "trainer.task_sampling=balanced"]
    balanced = trainer(tmp_path / "balanced", *options)
    independent = trainer(tmp_path / "independent", *options[:2])
    keys = [Key(0, (Purpose.TRAINING, iteration)) for iteration in range(1, 9)]
    sums = [balanced._sample_tasks(key)["direction"].sum() for key in keys]
    assert sums == [0.0] * 8
    assert any(independent._sample_tasks(key)["direction"].sum() != 0 for key in keys)


def test_episodes_before_the_step_have_a_number_of_their_own(tmp_path):
    options = ("env.horizon=1", "inner.steps=2", "trainer.iterations=2", "trainer.validate_every=1")
    five = (*options, "trainer.num_episodes_before=5")
    train_smoke(tmp_path / "five", *five)
    # an iteration: 2 tasks x (5 + 5 + 2) episodes of one step; validation keeps its own number
    assert [line["env_steps"] for line in read_metrics(tmp_path / "five")] == [24, 48]
    train_smoke(tmp_path / "equal", *options, "trainer.num_episodes_before=2")
    train_smoke(tmp_path / "left out", *options)
    equal, left_out = (read_metrics(tmp_path / name) for name in ("equal", "left out"))
    assert repeatable(equal) == repeatable(left_out)
    go_on(tmp_path / "five", *five, "trainer.iterations=3")
    assert read_metrics(tmp_path / "five")[-1]["env_steps"] == 72


def test_without_inner_steps_no_episodes_come_before_them(tmp_path):
    with pytest.raises(UserError) as caught:
        trainer(tmp_path, "inner.steps=0", "trainer.num_episodes_before=5")
    assert str(caught.value) == (
        "trainer.num_episodes_before=5 counts episodes before inner steps, and maml_trpo takes "
        "none in training: leave it out."
    )


def test_validation_is_keyed_apart_from_training(tmp_path):
    """However often a run is validated, it trains the same."""
    train_smoke(tmp_path / "a", "trainer.validate_every=1")
    train_smoke(tmp_path / "b", "trainer.validate_every=9")
    for one, other in zip(read_metrics(tmp_path / "a"), read_metrics(tmp_path / "b"), strict=True):
        assert one["return/step_1"] == other["return/step_1"]
        assert one["env_steps"] == other["env_steps"]


def test_threads_do_not_change_the_result(tmp_path):
    train_smoke(tmp_path / "a", "sampler.threads=1")
    train_smoke(tmp_path / "b", "sampler.threads=2")
    assert repeatable(read_metrics(tmp_path / "a")) == repeatable(read_metrics(tmp_path / "b"))
    assert_same_meta(tmp_path / "a/checkpoints/last.pt", tmp_path / "b/checkpoints/last.pt")


def test_env_steps_stop_the_run_at_the_iteration_that_reaches_them(tmp_path):
    short = ("outer.cg_iterations=1", "trainer.validate_every=9")
    train_smoke(tmp_path / "long", *short, "trainer.iterations=5")
    steps = [line["env_steps"] for line in read_metrics(tmp_path / "long")]
    for limit, expected in [(steps[2], 3), (steps[2] + 1, 4), (steps[2] - 1, 3), (1, 1)]:
        path = tmp_path / str(limit)
        train_smoke(path, *short, "trainer.iterations=null", f"trainer.env_steps={limit}")
        assert [line["iteration"] for line in read_metrics(path)] == list(range(1, expected + 1))
    path = tmp_path / "both"
    train_smoke(path, *short, "trainer.iterations=2", f"trainer.env_steps={steps[3]}")
    assert len(read_metrics(path)) == 2


@pytest.fixture(scope="module", params=["maml_trpo", "maml_adam"])
def interrupted(request, tmp_path_factory):
    """Overrides, a run of four iterations, and one that was stopped after the first two."""
    folder = tmp_path_factory.mktemp(request.param)
    overrides = (f"algorithm={request.param}", "inner=meta_sgd", "trainer.validate_every=2")
    for name, iterations in (("whole", 4), ("half", 2)):
        train_smoke(folder / name, *overrides, f"trainer.iterations={iterations}")
    return overrides, folder / "whole", folder / "half"


@pytest.mark.parametrize("damage", ["none", "killed while writing", "a line too many"])
def test_resuming_is_exact(interrupted, damage, tmp_path):
    overrides, whole, half = interrupted
    path = shutil.copytree(half, tmp_path / "parts")
    if damage == "killed while writing":
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"iteration": 3, "env_st')
        (path / "checkpoints/last.partial.pt").write_bytes(b"half")
        (path / "checkpoints/best.partial.pt").write_bytes(b"half")
    if damage == "a line too many":
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"iteration": 3}\n{"iteration": 4}\n')
    go_on(path, *overrides, "trainer.iterations=4")
    assert repeatable(read_metrics(path)) == repeatable(read_metrics(whole))
    for name in ("last", "best", "iteration_000004"):
        one, other = (run / f"checkpoints/{name}.pt" for run in (whole, path))
        assert_same_meta(one, other)
        first, second = load(one), load(other)
        for key in ("iteration", "env_steps", "best_validation"):
            assert first[key] == second[key]


def test_resuming_from_the_first_checkpoint_is_the_whole_run(tmp_path):
    train_smoke(tmp_path / "whole")
    trainer(tmp_path / "parts").begin()
    go_on(tmp_path / "parts")
    one, other = (read_metrics(tmp_path / name) for name in ("whole", "parts"))
    assert repeatable(one) == repeatable(other)


def test_best_goes_on_right_after_resuming(tmp_path):
    """A checkpoint that says nothing better was seen is replaced, one that says so is not."""
    path = tmp_path / "run"
    train_smoke(path, "trainer.iterations=2")
    shutil.copytree(path, tmp_path / "high")
    run = trainer(tmp_path / "high", "trainer.iterations=4")
    progress = run.resume()
    progress.best_validation = 1e9
    before = (tmp_path / "high/checkpoints/best.pt").read_bytes()
    run.run(progress)
    assert (tmp_path / "high/checkpoints/best.pt").read_bytes() == before
    run = trainer(path, "trainer.iterations=4")
    progress = run.resume()
    progress.best_validation = -1e9
    run.run(progress)
    assert load(path / "checkpoints/best.pt")["iteration"] in (3, 4)


def test_resuming_uses_the_stored_tasks(tmp_path):
    train_smoke(tmp_path)
    run = trainer(tmp_path, "trainer.test_tasks=9", "trainer.validation_tasks=5")
    run.resume()
    assert (len(run.splits.test["goal"]), len(run.splits.validation["goal"])) == (4, 2)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    train_smoke(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    go_on(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_metrics_shorter_than_the_checkpoint_says_are_refused(tmp_path):
    train_smoke(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is shorter than at the last checkpoint"):
        trainer(tmp_path).resume()
    path.unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl is shorter than at the last checkpoint"):
        trainer(tmp_path).resume()


OWN = """
import numpy as np

from envs import PointNavigation


class Breaking(PointNavigation):
    calls = 0

    def reward(self, before, action, after, task):
        type(self).calls += 1
        value = super().reward(before, action, after, task).copy()
        if type(self).calls > 26:
            value[1] = {value}
        return value
"""


@pytest.mark.parametrize("value", ["np.nan", "-np.inf"])
def test_a_reward_that_is_not_finite_names_iteration_and_task(value, work):
    name = f"breaking_{value[-3:]}"
    (work / f"{name}.py").write_text(OWN.format(value=value))
    # one step is tried before the run; an iteration is 2 collections x 10 steps: call 27 is step
    # 5 of the second iteration
    overrides = (
        f"env._target_={name}.Breaking",
        "trainer.iterations=4",
        "trainer.validate_every=9",
    )
    run = trainer(work / "run", *overrides)
    with pytest.raises(NonFiniteError) as caught:
        run.run(run.begin())
    assert (
        str(caught.value)
        == "iteration 2: breaking: the reward of task 1, episode 0, step 5 is not finite"
    )
    assert load(work / "run/checkpoints/last.pt")["iteration"] == 1
    assert [line["iteration"] for line in read_metrics(work / "run")] == [1]
    assert json.loads((work / "run/stopped.json").read_text()) == {"error": str(caught.value)}


def test_parameters_that_are_not_finite_stop_the_run(tmp_path):
    run = trainer(tmp_path)
    progress = run.begin()
    progress.meta["layers.0.weight"][0, 0] = torch.nan
    with pytest.raises(
        NonFiniteError, match="iteration 1: point_navigation: the action of task 0, episode 0, step"
    ):
        run.run(progress)
    kept = load(tmp_path / "checkpoints/last.pt")["meta"]
    assert all(leaf.isfinite().all() for leaf in kept.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_request_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.requested is None
        signal.raise_signal(number)
        assert stop.requested == number
        assert signal.getsignal(number) == before  # a second one acts at once
    assert signal.getsignal(number) == before


def test_a_stop_gives_up_the_iteration_under_way(tmp_path):
    run = trainer(tmp_path, "trainer.iterations=50", "outer.cg_iterations=1")
    show = run.logger.show

    def stop_after_three(metrics, fraction):
        show(metrics, fraction)
        if metrics["iteration"] == 3:
            signal.raise_signal(signal.SIGTERM)

    run.logger.show = stop_after_three
    run.run(run.begin())
    assert run.stop.requested == signal.SIGTERM
    assert load(tmp_path / "checkpoints/last.pt")["iteration"] == 3
    assert len(read_metrics(tmp_path)) == 3


@pytest.mark.parametrize(
    "name",
    [
        *("env_steps", "num_tasks", "num_episodes", "num_episodes_before", "validate_every"),
        *("validation_tasks", "validation_episodes", "test_tasks", "checkpoint_every"),
    ],
)
def test_sizes_are_whole_numbers_of_at_least_one(name, tmp_path):
    config = smoke_config()
    for value in (0, -3, 1.5, "abc", True):
        config.trainer[name] = value
        with pytest.raises(UserError) as caught:
            build_trainer(config, tmp_path)
        words = f"trainer.{name} must be a whole number of at least 1, not {value!r}."
        assert str(caught.value) == words


def test_a_run_must_end_somewhere(tmp_path):
    with pytest.raises(
        UserError, match=r"^trainer\.iterations=null and trainer\.env_steps=null: set one of them"
    ):
        trainer(tmp_path, "trainer.iterations=null")
