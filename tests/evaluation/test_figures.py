"""Figures of an evaluation: what is drawn is what was recorded."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from envs import PointNavigation, UserError
from envs.protocol import Splits
from envs.registry import build
from envs.wrappers.held_out import HeldOut
from envs.wrappers.task_observed import TaskObserved
from envs.wrappers.union import Union
from maml_rl.algorithm.rollout import Rollout
from maml_rl.evaluation import curves
from maml_rl.evaluation import trajectories as figures
from maml_rl.evaluation.comparison_curves import Overlay, chosen, comparison_figure
from maml_rl.evaluation.curves import BEFORE, _draw_grid, save_png, scatter_figure, style
from maml_rl.evaluation.result import Estimate, Grid, Point
from tests.support.run_files import png_size
from tests.support.written_runs import result_of

M, T, B = 3, 4, 2


def rollout(seed, size=2, mask=None, **info):
    """M x T x B steps of random numbers."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    mask = torch.ones(M, T, B) if mask is None else mask
    first = torch.zeros(M, T, B)
    first[:, 0] = 1
    steps = [draw(M, T, B) for _ in range(2)]
    return Rollout(
        observations=draw(M, T, B, size),
        actions=draw(M, T, B, 2),
        rewards=steps[0],
        discounts=mask,
        first=first,
        mask=mask,
        log_probs=steps[1],
        final_observations=draw(M, B, size),
        state=None,
        info={name: torch.as_tensor(leaf) for name, leaf in info.items()},
    )


def drawn(axes, width=0.7):
    """Return the lines of single episodes, or of another width, as arrays [N, 2]."""
    return [line.get_xydata() for line in axes.lines if line.get_linewidth() == width]


def moments(episodes):
    """Join an episode's observations with its last one, [M, T + 1, B, O]."""
    return torch.cat([episodes.observations, episodes.final_observations[:, None]], 1).numpy()


def goals():
    return {"goal": np.array([[0.3, -0.4], [0.1, 0.2], [-0.5, 0.0]])}


def test_the_points_ways_are_its_observations():
    both = [rollout(0), rollout(1)]
    figure = figures.trajectory_figure("title", build("point_navigation"), goals(), both)
    assert figure.get_suptitle() == "title"
    assert len(figure.axes) == M
    titles = ["goal (0.30, -0.40)", "goal (0.10, 0.20)", "goal (-0.50, 0.00)"]
    assert [axes.get_title() for axes in figure.axes] == titles
    for task, axes in enumerate(figure.axes):
        expected = [moments(own)[task, :, slot] for own in both for slot in range(B)]
        assert np.array_equal(drawn(axes), expected)
        thin = [line.get_color() for line in axes.lines if line.get_linewidth() == 0.7]
        assert [to_hex(colour) for colour in thin] == 2 * [BEFORE] + 2 * ["#0d0887"]
        means = [moments(own)[task].mean(1) for own in both]
        assert np.allclose(drawn(axes, 2.0), means, atol=1e-6)
        star = axes.collections[-1].get_offsets()
        assert np.array_equal(star, goals()["goal"][[task]])
        assert axes.get_aspect() == 1
        x, y = axes.get_xlim(), axes.get_ylim()
        assert x[1] - x[0] == pytest.approx(y[1] - y[0])
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["before adaptation", "after 1 step", "single episodes", "their mean", "goal"]


def test_steps_after_the_end_are_not_drawn():
    mask = torch.ones(M, T, B)
    mask[1, 2:, 0] = 0  # task 1's first episode has two steps: three positions
    both = [rollout(0, mask=mask), rollout(1)]
    figure = figures.trajectory_figure("", build("point_navigation"), goals(), both)
    lines, (mean, _) = drawn(figure.axes[1]), drawn(figure.axes[1], 2.0)
    ways = moments(both[0])[1]
    assert [len(line) for line in lines] == [3, 5, 5, 5]
    assert np.array_equal(lines[0], ways[:3, 0])
    # it stays at its third position in the mean
    assert np.allclose(mean, (ways[[0, 1, 2, 2, 2], 0] + ways[:, 1]) / 2, atol=1e-6)


def test_x_is_the_sum_of_velocities():
    velocity = np.zeros((M, T, B), dtype=np.float32)
    velocity[0, :, 0] = [1.0, 2.0, -1.0, 4.0]
    velocity[0, :, 1] = 1.0
    both = [rollout(0, x_velocity=velocity), rollout(1, x_velocity=-velocity)]
    tasks = {"direction": np.array([1.0, -1.0, 1.0])}
    figure = figures.trajectory_figure("", build("half_cheetah_dir"), tasks, both)
    assert [axes.get_title() for axes in figure.axes] == ["forward", "backward"]  # each once
    lines = drawn(figure.axes[0])
    # a control step is 5 x 0.01 s; 1, 3, 2 and 6 m/s summed up make 0.05, 0.15, 0.1, 0.3 m
    assert lines[0][:, 0] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert lines[0][:, 1] == pytest.approx([0, 0.05, 0.15, 0.1, 0.3])
    assert lines[2][:, 1] == pytest.approx([0, -0.05, -0.15, -0.1, -0.3])
    # the mean with the other episode's 0.05, 0.1, 0.15, 0.2 m
    assert drawn(figure.axes[0], 2.0)[0][:, 1] == pytest.approx([0, 0.05, 0.125, 0.125, 0.25])
    assert figure.axes[0].get_ylabel() == "x from the start, m"
    assert figure.axes[0].get_xlabel() == "time, s"


def test_the_target_velocity_is_a_dashed_line():
    velocity = np.random.default_rng(0).normal(size=(M, T, B))
    both = [rollout(0, x_velocity=velocity), rollout(1, x_velocity=velocity)]
    tasks = {"velocity": np.array([0.5, 1.0, 2.0])}
    figure = figures.trajectory_figure("", build("half_cheetah_vel"), tasks, both)
    (line,) = drawn(figure.axes[2], figures.COURSE["linewidth"])
    assert line[:, 1] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])  # 2 m/s
    assert figure.legends[0].get_texts()[-1].get_text() == "target"


def test_headings_are_followed_and_positions_read_where_they_are_observed():
    velocity = np.random.default_rng(0).normal(size=(M, T, B))
    heading = {"heading": np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])}
    shown = build("ant_heading").trajectories(heading, None, {"heading_velocity": velocity})
    assert np.allclose(shown.values[:, 1:], 0.05 * velocity.cumsum(1))
    assert np.array_equal(shown.values[:, 0], np.zeros((M, B)))
    assert build("humanoid_dir").trajectories(heading, None, {}) is None
    assert build("hopper_vel").trajectories({"velocity": np.ones(M)}, None, {}) is None
    observations = np.random.default_rng(1).normal(size=(M, T + 1, B, 29))
    for name, columns in [("ant_goal", (0, 1)), ("swimmer_goal", (0, 1)), ("reacher_goal", (6, 7))]:
        shown = build(name).trajectories(goals(), observations, {})
        assert np.array_equal(shown.values, observations[..., columns])
        assert np.array_equal(shown.targets, goals()["goal"])
    blind = build("ant_goal", {"observe_position": False})
    assert blind.trajectories(goals(), observations, {}) is None


@pytest.mark.parametrize(
    ("name", "place"),
    [("ant_goal", lambda data: data.qpos[:2]), ("reacher_goal", lambda data: data.xpos[3, :2])],
)
def test_what_is_read_is_where_the_body_is(name, place):
    distribution = build(name)
    env = distribution.single(None)
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=0)[0]]
    there = [place(env.data).copy()]
    for _ in range(3):
        seen.append(env.step(rng.uniform(-0.3, 0.3, size=env.action_space.shape))[0])
        there.append(place(env.data).copy())
    observations = np.array(seen)[None, :, None]
    shown = distribution.trajectories({"goal": np.ones((1, 2))}, observations, {})
    assert np.allclose(shown.values[0, :, 0], there)
    assert np.ptp(there, axis=0).min() > 1e-5


def test_a_wrapped_distribution_shows_its_own():
    point, episodes = build("point_navigation"), rollout(0, size=4)
    seen = moments(episodes)
    observed = TaskObserved(point).trajectories(goals(), seen, {})
    assert np.array_equal(observed.values, seen[..., :2])  # without the goal behind it
    held_out = HeldOut(point, build("point_navigation", {"goal_range": 1.0}))
    assert np.array_equal(held_out.trajectories(goals(), seen, {}).values, seen)
    mdp = TaskObserved(build("random_mdp"))
    assert mdp.trajectories({}, seen, {}) is None


def test_a_union_shows_each_tasks_own_member():
    direction, velocity = build("half_cheetah_dir"), build("half_cheetah_vel")
    info = {"x_velocity": np.random.default_rng(0).normal(size=(M, T, B))}
    tasks = {
        "member": np.array([0, 1, 0]),
        "0/direction": np.array([1.0, 1.0, -1.0]),
        "1/velocity": np.array([9.0, 2.0, 9.0]),
    }
    shown = Union([direction, velocity]).trajectories(tasks, None, info)
    assert np.allclose(shown.values[:, 1:], 0.05 * info["x_velocity"].cumsum(1))
    assert shown.targets[1] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert np.isnan(shown.targets[[0, 2]]).all()
    both = [rollout(0, **info), rollout(1, **info)]
    figure = figures.trajectory_figure("", Union([direction, velocity]), tasks, both)
    dashed = [len(drawn(axes, figures.COURSE["linewidth"])) for axes in figure.axes]
    assert dashed == [0, 1, 0]
    mdps = Union([build("random_mdp"), build("random_mdp")])
    assert mdps.trajectories(mdps.sample(M, np.random.default_rng(0)), None, {}) is None


def test_a_union_whose_members_show_different_things_shows_nothing():
    corners, point = build("point_navigation_corners", {"reach": 0.1}), build("point_navigation")
    union = Union([corners, point])
    tasks = union.sample(M, np.random.default_rng(0))
    seen = moments(rollout(0))
    assert np.array_equal(union.trajectories(tasks, seen, {}).values, seen)
    point.trajectories = lambda tasks, observations, info: None
    assert union.trajectories(tasks, seen, {}) is None


def test_what_shows_nothing_has_no_figure():
    both = [rollout(0), rollout(1)]
    tasks = build("random_mdp").sample(M, np.random.default_rng(0))
    assert figures.trajectory_figure("", build("random_mdp"), tasks, both) is None


def test_values_of_a_wrong_shape_are_told():
    point = build("point_navigation")
    own = point.trajectories
    point.trajectories = lambda tasks, observations, info: own(tasks, observations[:, 1:], info)
    with pytest.raises(UserError, match=r"trajectories\(tasks, observations, info\)"):
        figures.trajectory_figure("", point, goals(), [rollout(0), rollout(1)])


def test_tasks_called_the_same_are_one_panel_and_there_are_six_at_most():
    cheetah = build("half_cheetah_vel")
    velocities = {"velocity": np.array([1.0, 1.0, 0.5, 2.0, 1.5, 0.1, 0.2, 0.3, 0.4])}
    assert figures.chosen_tasks(cheetah, velocities) == [0, 2, 3, 4, 5, 6]
    assert figures.chosen_tasks(cheetah, velocities, 2) == [0, 2]
    assert [figures.stage_name(step) for step in range(3)] == [
        *("before adaptation", "after 1 step", "after 2 steps")
    ]
    assert [figures.stage_name(step, 20) for step in range(3)] == [
        *("the first episode", "after 20 episodes", "after 40 episodes")
    ]
    # of a grid both ends and what is between: 20 / 5 apart
    assert figures.spread(21) == [0, 4, 8, 12, 16, 20]
    assert figures.spread(3) == [0, 1, 2]
    directions = {"direction": np.array([-1.0, -1.0, 1.0, -1.0])}
    assert figures.chosen_tasks(build("half_cheetah_dir"), directions) == [0, 2]


def test_stages_are_named():
    assert [figures.stage_name(step) for step in (0, 1, 2)] == [
        *("before adaptation", "after 1 step", "after 2 steps")
    ]


def splits(distribution):
    rng = np.random.default_rng(7)
    return Splits(distribution.sample(3, rng), distribution.sample(5, rng))


def test_goals_are_drawn_where_they_are():
    point = build("point_navigation")
    stored = splits(point)
    figure = figures.task_figure("title", point, stored)
    (axes,) = figure.axes
    training, validation, test = (own.get_offsets() for own in axes.collections)
    assert np.array_equal(training, point.sample(1000, np.random.default_rng(0))["goal"])
    assert np.array_equal(validation, stored.validation["goal"])
    assert np.array_equal(test, stored.test["goal"])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("goal[0]", "goal[1]")
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["training, 1000 draws", "validation, 3 tasks", "test, 5 tasks"]


def test_velocities_are_counted():
    cheetah = build("half_cheetah_vel")
    stored = splits(cheetah)
    (axes,) = figures.task_figure("", cheetah, stored).axes
    drawn = cheetah.sample(1000, np.random.default_rng(0))["velocity"]
    assert [bar.get_height() for bar in axes.patches] == np.histogram(drawn, 15)[0].tolist()
    validation, test = (own.get_offsets()[:, 0] for own in axes.collections)
    assert np.array_equal(validation, stored.validation["velocity"])
    assert np.array_equal(test, stored.test["velocity"])
    assert axes.get_xlabel() == "velocity"


@pytest.mark.parametrize("name", ["half_cheetah_dir", "point_navigation_corners", "random_mdp"])
def test_finite_sets_and_tables_have_no_picture_of_tasks(name):
    distribution = build(name)
    assert figures.task_figure("", distribution, splits(distribution)) is None


def test_a_figure_is_a_png_and_leaves_nothing_else(tmp_path):
    figure = figures.trajectory_figure(
        "", build("point_navigation"), goals(), [rollout(0), rollout(1)]
    )
    save_png(figure, tmp_path / "own" / "trajectories.png")
    # three panels of 3.4 inches and 1 beside, 3.3 and 1.1 high, at 120 dots an inch
    assert png_size(tmp_path / "own" / "trajectories.png") == (1344, 528)
    assert len(list((tmp_path / "own").iterdir())) == 1


def test_stored_tasks_beyond_those_of_training_are_within_the_axes():
    """The test tasks of a held-out range, which the histogram of training draws does not span."""
    axes = Figure().add_subplot()
    drawn, stored = np.linspace(0.0, 2.0, 9)[:, None], np.array([[2.5], [3.0]])
    figures._draw_histogram(axes, ["velocity"], drawn, drawn[:2], stored)
    low, high = axes.get_xlim()
    assert (low, high) == pytest.approx((-0.15, 3.15))


def test_no_two_lines_share_their_colour_dash_or_marker_in_combination():
    styles = [style(number) for number in range(19)]
    for pair in (lambda one: (one.colour, one.marker), lambda one: (one.colour, one.dash)):
        assert len({pair(one) for one in styles}) == 19
    assert len({one.marker for one in styles[:7]}) == len({one.colour for one in styles[:7]}) == 7
    neighbours = itertools.pairwise(styles)
    assert all(one.dash != other.dash for one, other in neighbours)


def test_of_many_episodes_five_are_drawn_of_the_first_and_last_stage():
    rng = np.random.default_rng(0)
    velocity = [rng.normal(size=(M, T, 20)) for _ in range(4)]
    stages = [rollout(0, x_velocity=own, mask=torch.ones(M, T, 20)) for own in velocity]
    stages = [own._replace(final_observations=own.final_observations.repeat(1, 10, 1),
                           observations=own.observations.repeat(1, 1, 10, 1))
              for own in stages]  # fmt: skip
    tasks = {"direction": np.array([1.0, -1.0, 1.0])}
    figure = figures.trajectory_figure("", build("half_cheetah_dir"), tasks, stages)
    axes = figure.axes[0]
    assert (len(drawn(axes)), len(drawn(axes, 2.0))) == (10, 4)
    # the mean is of all 20: x after a step of 0.05 s
    assert drawn(axes, 2.0)[1][1, 1] == pytest.approx(0.05 * velocity[1][0, 0].mean())
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[4:] == ["5 of 20 episodes, first and last stage", "mean of all 20"]


def test_the_line_of_no_change_runs_at_45_degrees():
    (axes,) = scatter_figure(result_of([[0.0, 1.0], [90.0, 100.0]])).axes
    assert axes.get_aspect() == 1
    assert axes.get_xlim() == axes.get_ylim() == (-5.0, 105.0)  # 0 to 100, and 5 % of it
    line = axes.lines[0].get_xydata()
    assert np.array_equal(line[:, 0], line[:, 1])


def test_steps_on_a_grid_have_colours_and_markers_of_their_own():
    axes = Figure().add_subplot()
    grid = Grid("velocity", [0.0, 1.0], [0.0, 1.0])
    _draw_grid(axes, grid, result_of([[1.0, 2.0]] * 4).curve)
    assert len({to_hex(line.get_color()) for line in axes.lines}) == 4
    assert len({line.get_marker() for line in axes.lines}) == 4


def overlay(number, points=2):
    curve = [Point(float(number), (number, number), number=step) for step in range(points)]
    trained = np.array([1000.0]), np.array([float(number)])
    return Overlay(f"group {number}", [trained], trained, curve)


def test_of_many_groups_the_first_and_the_best_are_in_colour_and_all_others_in_panels():
    overlays = [overlay(number) for number in range(19)]
    assert chosen(overlays) == [0, 13, 14, 15, 16, 17, 18]
    assert chosen(overlays[:7]) == list(range(7))
    figure = comparison_figure(overlays, "all")
    titles = [axes.get_title() for axes in figure.axes[2:14]]
    assert titles == [f"group {number}" for number in range(1, 13)]
    (legend,) = figure.subfigs[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [
        *(f"group {number}" for number in chosen(overlays)),
        "others, each in a small panel below",
    ]


def test_a_run_of_one_iteration_is_a_point_of_its_learning_curve():
    learning = comparison_figure([overlay(1), overlay(2)], "all").axes[0]
    assert [line.get_marker() for line in learning.lines] == ["o", "s"]


def test_tasks_of_three_numbers_are_drawn_by_pairs():
    class Boxes(PointNavigation):
        def sample(self, count, rng):
            return {"goal": rng.uniform(size=(count, 3))}

    stored = splits(Boxes())
    figure = figures.task_figure("title", Boxes(), stored)
    names = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert names == [("goal[0]", "goal[1]"), ("goal[0]", "goal[2]"), ("goal[1]", "goal[2]")]
    test = figure.axes[1].collections[2].get_offsets()
    assert np.array_equal(test, stored.test["goal"][:, [0, 2]])
    assert len(figure.legends[0].get_texts()) == 3


def test_success_rates_have_a_panel_where_they_are_recorded(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save_png", lambda figure, path: drawn.append(figure))
    returns, rates = [[1.0, 2.0], [3.0, 4.0]], np.array([[0.0, 0.5], [1.0, 0.5]])
    curves.adaptation_plot(tmp_path, "", result_of(returns, success=rates))
    curves.adaptation_plot(tmp_path, "", result_of(returns))
    assert [len(figure.axes) for figure in drawn] == [3, 2]
    axes = drawn[0].axes[2]
    assert axes.get_ylabel() == "success rate (95 % interval)"
    assert axes.lines[0].get_xydata().tolist() == [[0, 0.25], [1, 0.75]]  # means over two tasks
    assert axes.get_ylim() == (-0.03, 1.03)
    of_report = curves.adaptation_figure(result_of(returns, success=rates))
    assert [one.get_ylabel().partition(" (")[0] for one in of_report.axes] == [
        *("return", "success rate")
    ]


def test_success_rates_of_groups_are_compared_where_all_have_them():
    rates = [Estimate(0.25, (0.0, 0.5)), Estimate(0.75, (0.5, 1.0))]
    both = [overlay(1)._replace(success=rates), overlay(2)._replace(success=rates[::-1])]
    axes = comparison_figure(both, "all").axes
    assert [one.get_ylabel() for one in axes[1:]] == [
        "return (95 % interval)",
        "success rate (95 % interval)",
    ]
    means = [line.get_ydata().tolist() for line in axes[2].lines]
    assert means == [[0.25, 0.75], [0.75, 0.25]]
    assert len(comparison_figure([both[0], overlay(2)], "all").axes) == 2


def test_panels_that_a_grid_has_too_many_are_empty():
    figure, axes = curves.laid_out(5, 1, 1)
    assert len(axes) == 5
    assert [one.axison for one in figure.axes] == [True] * 5 + [False]


def test_the_numbers_of_a_task_that_are_not_drawn_are_named():
    class Boxes:
        def finite_tasks(self):
            return None

        def sample(self, count, rng):
            return {"goal": rng.uniform(size=(count, 3)), "mass": rng.uniform(size=(count, 2))}

    figure = figures.task_figure("title", Boxes(), splits(Boxes()))
    assert figure.get_suptitle() == "title (not drawn: mass[0], mass[1])"
    assert len(figure.axes) == 3


def test_labels_between_dollar_signs_are_no_formulas(tmp_path):
    label = r"[/m] $\nothing$"  # a formula that matplotlib refuses
    result = result_of([[1.0, 2.0], [3.0, 4.0]], {label: np.array([True, False])})
    curves.adaptation_plot(tmp_path / "adaptation.png", label, result)
    assert png_size(tmp_path / "adaptation.png") == (1200, 504)
    assert curves.svg(curves.adaptation_figure(result)).startswith(b"<?xml")
