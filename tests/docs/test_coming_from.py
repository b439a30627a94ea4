"""docs/coming_from.md: its options have the defaults it says, and its commands compose."""

import re
import shlex
from functools import cache

import pytest
import yaml
from omegaconf import OmegaConf

from maml_rl.commands.cli import compose
from maml_rl.configuration.building import build_distribution, build_learner
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "coming_from.md").read_text()
GROUPS = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
COMMANDS = [
    line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


def tables():
    """Yield (overrides that the text before a table names, its heading, its rows of cells)."""
    named = []
    for block in PAGE.split("\n\n"):
        if not block.startswith("|"):
            named = re.findall(r"defaults with `([^`]+)`", block)
            continue
        lines = [line.strip().strip("|").split("|") for line in block.strip().splitlines()]
        rows = [[cell.strip() for cell in line] for line in lines]
        yield named, rows[0], rows[2:]


def spans(cell):
    """Return the code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


OPTIONS = [
    (named, span)
    for named, heading, rows in tables()
    if heading[0] == "theirs"
    for row in rows
    for span in spans(row[2])
]
ENVIRONMENTS = [
    span
    for _, heading, rows in tables()
    if heading[0] == "environment there"
    for row in rows
    for span in spans(row[1])
]


def test_the_page_s_tables_are_read():
    headings = [heading[0] for _, heading, _ in tables()]
    assert headings.count("theirs") == 5
    assert headings.count("environment there") == 2
    assert {"algorithm=promp", "algorithm=maml_ppo"} == {
        one for named, heading, _ in tables() for one in named
    }
    assert len(OPTIONS) > 70
    assert len(ENVIRONMENTS) == 13
    assert len(COMMANDS) == 6
    for _, heading, rows in tables():
        assert all(len(row) == len(heading) for row in rows)


@pytest.mark.parametrize("named", [[], ["algorithm=promp"], ["algorithm=maml_ppo"]], ids=str)
def test_every_option_exists_with_the_default_that_the_page_says(named):
    config = compose("config", named)
    for key, _, value in (span.partition("=") for where, span in OPTIONS if where == named):
        if key in GROUPS:
            assert compose("config", [*named, f"{key}={value}"]) == config, key
            continue
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        assert name in node, key
        assert node[name] == yaml.safe_load(value), key


@cache
def built(overrides):
    return build_distribution(compose("config", overrides.split()))


@pytest.mark.parametrize("overrides", ENVIRONMENTS)
def test_every_environment_builds(overrides):
    wanted = re.match(r"env=(\w+)", overrides).group(1)
    assert built(overrides).name == wanted


def test_the_environments_are_the_ones_described():
    cheetah, velocity, point, *ants = (built(overrides) for overrides in ENVIRONMENTS[:6])
    # pytorch-maml-rl: outputs span [-10, 10], 100 steps of five times 0.01 s
    assert (cheetah.action_scale, cheetah.horizon, cheetah.frame_skip) == (0.1, 100, 5)
    assert cheetah.observation_space.shape == (8 + 9 + 3,)
    assert velocity.preset.velocities == (0.0, 2.0)
    assert (point.action_scale, point.horizon, point.preset.goal_range) == (1.0, 100, 0.5)
    for ant in ants:  # 0.5 * 1e-2, [0.2, 1], Gymnasium's five physics steps
        assert (ant.preset.control_cost, ant.preset.heights) == (0.005, (0.2, 1.0))
        assert (ant.frame_skip, ant.horizon, ant.action_scale) == (5, 100, 0.1)
    # 0.05, and what the velocity's and the goal's reward begin at: 1 and 4
    assert [ant.preset.survival for ant in ants] == [1.05, 0.05, 4.05]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_and_builds(command):
    python, program, *overrides = shlex.split(command.replace("<run folder>", "run"))
    assert python == "python"
    if program == "evaluate.py":
        assert compose("evaluate", overrides).run == "run"
        return
    assert program == "train.py"
    config = compose("config", overrides)
    learner = build_learner(config, build_distribution(config))
    assert learner.policy.observation_size > 0


def test_their_experiments_have_the_environment_steps_that_the_page_says():
    sizes = [
        compose("config", shlex.split(command)[2:]).trainer
        for command in COMMANDS
        if command.startswith("python train.py env=half_cheetah_dir")
    ]
    # tasks x episodes x 100 steps, before and after adaptation
    steps = [2 * 100 * size.num_tasks * size.num_episodes * size.iterations for size in sizes]
    assert steps == [80_000_000, 24_000_000, 48_000_000, 48_000_000]
