"""Meta-World's ML1, ML10 and ML45 (metaworld 3.1.1) as task distributions, on this MuJoCo.

metaworld pins MuJoCo 3.3.0. On 4.0 one thing fails: a weld constraint's data has a twelfth number,
which says whether MuJoCo computes the welded pose itself; Meta-World writes eleven. `_Bridged`
writes them all, the last as zero: the pose is given. Nothing of metaworld is edited or replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import gymnasium.vector
import mujoco
import numpy as np

from envs.arguments import integer_at_least, one_of
from envs.backends.gymnasium.distribution import GymnasiumTaskDistribution
from envs.backends.mujoco.model import check_stable, quiet_mujoco
from envs.errors import ArgumentError, UserError
from envs.protocol import Array, Task, Tasks

GOALS = 50  # of a class, in each split: Meta-World's number
VECTOR = 6  # numbers that say where a class's objects and goal are; some classes use fewer
LIMIT = 500  # steps, after which Meta-World's environments refuse to go on


def _env_dict() -> ModuleType:
    """Import the tables of Meta-World's classes.

    Raises:
        UserError: if it is not installed.
    """
    try:
        from metaworld import env_dict
    except ImportError as error:
        raise UserError(
            f"Meta-World is not installed ({error}): make metaworld, or pip install scipy and then "
            f"pip install --no-deps metaworld==3.1.1 (it asks for an older MuJoCo)."
        ) from error
    module: ModuleType = env_dict
    return module


@cache
def _names() -> tuple[str, ...]:
    """Names of all classes, in the order of Meta-World's task_id."""
    return tuple(_env_dict().ALL_V3_ENVIRONMENTS)


class _Bridged:
    """The changes to a Meta-World class for this MuJoCo; comes before it among the bases."""

    model: mujoco.MjModel

    def reset_mocap_welds(self) -> None:
        """Weld the hand to the mocap body, as Meta-World does with eleven numbers."""
        welds = self.model.eq_type == int(mujoco.mjtEq.mjEQ_WELD)
        self.model.eq_data[welds] = 0.0
        self.model.eq_data[welds, 6] = -1.0  # the relative orientation's real part
        self.model.eq_data[welds, 10] = 5.0  # torque scale


@cache
def _compiled(path: str) -> tuple[mujoco.MjModel, Array, Array]:
    """A body, compiled once in a process, and its initial positions of bodies and sites.

    A model is 18 MiB, most of it meshes.
    """
    with quiet_mujoco():
        model = mujoco.MjModel.from_xml_path(path)
    return model, model.body_pos.copy(), model.site_pos.copy()


class _Shared(_Bridged):
    """Shares its model with the other environments of its class in this process."""

    fullpath: str
    width: int
    height: int

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model, *positions = _compiled(self.fullpath)
        model.body_pos[:], model.site_pos[:] = positions
        screen = model.vis.global_
        screen.offwidth = max(screen.offwidth, self.width)
        screen.offheight = max(screen.offheight, self.height)
        return model, mujoco.MjData(model)


@cache
def _class(name: str, base: type[_Bridged]) -> Any:
    """A Meta-World class that runs on this MuJoCo, from `base`."""
    original = _env_dict().ALL_V3_ENVIRONMENTS[name]
    return type(original.__name__, (base, original), {})


class _Drawing(_Bridged):
    """Draws goals as its resets do, without physics, since no draw depends on physics."""

    data: mujoco.MjData
    stream: np.random.RandomState  # what Meta-World draws from, seeded globally there
    _random_reset_space: gymnasium.spaces.Box
    _last_rand_vec: Array

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        """Leave the physics out; poses are read."""
        mujoco.mj_kinematics(self.model, self.data)

    def _get_state_rand_vec(self) -> Array:
        box = self._random_reset_space
        self._last_rand_vec = self.stream.uniform(box.low, box.high, size=box.low.size)
        return self._last_rand_vec


@cache
def _goals(names: tuple[str, ...], seed: int) -> Array:
    """Draw the goals that Meta-World's benchmarks draw from `seed`, [classes, 50, 6]."""
    stream = np.random.RandomState(seed)
    goals = np.zeros((len(names), GOALS, VECTOR))
    for vectors, name in zip(goals, names, strict=True):
        with quiet_mujoco():
            env = _class(name, _Drawing)()
        env.stream, env._set_task_called = stream, True
        for vector in vectors:
            env.reset()
            vector[: env._last_rand_vec.size] = env._last_rand_vec
        env.close()
    goals.flags.writeable = False
    return goals


class MetaworldEnv(gymnasium.Env[Any, Any]):
    """A Meta-World environment that takes tasks of any class, with the goal hidden.

    Environments of a class share one model in a process. A task is written into the model's
    positions of bodies and sites, and every environment keeps a copy of them. Only the MjData
    belongs to one environment.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 80}

    def __init__(self, name: str = "reach-v3", render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._envs: dict[str, Any] = {}
        self._env = self._of_class(name)
        self._positions = self._pristine()
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space

    def set_task(self, task: Task) -> None:
        """Take a task for the next episodes: "class" (Meta-World's task_id) and "rand_vec" [6]."""
        env = self._env = self._of_class(_names()[int(task["class"])])
        size = env._random_reset_space.low.size
        env._last_rand_vec = np.array(task["rand_vec"][:size], dtype=np.float64)
        env._set_task_called = env._freeze_rand_vec = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; all episodes of a task begin in the same state."""
        super().reset(seed=seed)
        self._positions = self._pristine()
        self._write_positions()
        mujoco.mj_resetData(self._env.model, self._env.data)
        with quiet_mujoco():
            observation, info = self._env.reset()
        model = self._env.model
        self._positions = model.body_pos.copy(), model.site_pos.copy()
        return observation, info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move the hand by `action` [4]; episodes neither terminate nor are truncated here.

        Raises:
            SimulationError: if MuJoCo found the simulation unstable (it resets it silently).
        """
        self._write_positions()
        with quiet_mujoco():
            observation, reward, _, _, info = self._env.step(action)
        check_stable(self._env.data)
        return observation, float(reward), False, False, info

    def render(self) -> Any:
        """Draw the environment; an RGB array [480, 480, 3]."""
        self._write_positions()
        return self._env.render()

    def close(self) -> None:
        """Close the renderers."""
        for env in self._envs.values():
            env.close()

    def _of_class(self, name: str) -> Any:
        if name not in self._envs:
            self._envs[name] = _class(name, _Shared)(render_mode=self.render_mode)
        return self._envs[name]

    def _pristine(self) -> tuple[Array, Array]:
        _, body_pos, site_pos = _compiled(self._env.fullpath)
        return body_pos, site_pos

    def _write_positions(self) -> None:
        """Write this environment's positions into the model that it shares."""
        model = self._env.model
        model.body_pos[:], model.site_pos[:] = self._positions


class Metaworld(GymnasiumTaskDistribution):
    """The common part of the benchmarks.

    Tasks are {"class": [M], "rand_vec": [M, 6]}: Meta-World's task_id, and the positions of objects
    and goal (zeros at the end where a class has fewer). `sample` draws training tasks, with the
    classes in equal counts as far as M allows and in order; `held_out` draws the test tasks.

    Args:
        train: names of the training classes, and the seed of their goals.
        test: names of the test classes, and the seed of their goals.
        horizon: steps per episode.
    """

    measure = "success"  # that the benchmarks are reported in
    held_out: Metaworld  # its test tasks

    def __init__(
        self, train: tuple[Sequence[str], int], test: tuple[Sequence[str], int], horizon: int
    ) -> None:
        if integer_at_least("horizon", horizon) > LIMIT:
            raise ArgumentError(
                f"horizon must be at most Meta-World's {LIMIT}, not {horizon}.", "horizon"
            )
        self.classes, self.seed = tuple(train[0]), train[1]
        super().__init__("Meta-World", horizon, record=("success",))
        self.held_out = copy.copy(self)
        self.held_out.classes, self.held_out.seed = tuple(test[0]), test[1]

    def sample(self, num_tasks: int, rng: np.random.Generator) -> Tasks:
        """Draw a class and one of its 50 goals for each task."""
        count = len(self.classes)
        rounds = [rng.permutation(count) for _ in range(-(-num_tasks // count))]
        chosen = np.sort(np.concatenate(rounds)[:num_tasks])
        goals = _goals(self.classes, self.seed)[chosen, rng.integers(GOALS, size=num_tasks)]
        ids = np.array([_names().index(name) for name in self.classes])
        return {"class": ids[chosen], "rand_vec": goals}

    def apply(self, env: Any, task: Task) -> None:
        """Set the task of the environment."""
        env.set_task(task)

    def group_of(self, task: Task) -> str:
        """Name of a task's class, by which results are reported."""
        return str(_names()[int(task["class"])])

    def describe(self, task: Task) -> str:
        """The class with its numbers: "reach-v3 0.01 0.66 0.02 0.05 0.84 0.18"."""
        numbers = " ".join(f"{value:.2f}" for value in task["rand_vec"])
        return f"{_names()[int(task['class'])]} {numbers}"

    def build(self, render_mode: str | None = None) -> MetaworldEnv:
        """Build one environment, for tasks of any class."""
        return MetaworldEnv(self.classes[0], render_mode)


class MetaworldML1(Metaworld):
    """ML1: one class, 50 goals to train on and 50 others to test on.

    Args:
        task: name of the class.
        seed: of the goals, as in metaworld.ML1(task, seed).
        horizon: steps per episode.
    """

    def __init__(self, task: str = "reach-v3", seed: int = 0, horizon: int = LIMIT) -> None:
        name = one_of("task", task, _names())
        seed = integer_at_least("seed", seed, 0)
        super().__init__(([name], seed), ([name], seed + 1), horizon)


class _ManyClasses(Metaworld):
    """A benchmark whose training classes and test classes differ.

    Args:
        seed: of the goals, as in metaworld.ML10(seed).
        horizon: steps per episode.
    """

    table: str

    def __init__(self, seed: int = 0, horizon: int = LIMIT) -> None:
        seed = integer_at_least("seed", seed, 0)
        classes = getattr(_env_dict(), self.table)
        super().__init__((list(classes["train"]), seed), (list(classes["test"]), seed), horizon)


class MetaworldML10(_ManyClasses):
    """ML10: ten classes to train on and five others to test on, 50 goals each."""

    table = "ML10_V3"


class MetaworldML45(_ManyClasses):
    """ML45: 45 classes to train on and five others to test on, 50 goals each."""

    table = "ML45_V3"


def vector_environments(
    distribution: Metaworld,
    goals: int,
    meta_batch: int,
    horizon: int = LIMIT,
    reward_observed: bool = False,
) -> gymnasium.vector.SyncVectorEnv:
    """The test environments that metaworld.evaluation steps, built by Meta-World, on this MuJoCo.

    They are those of metaworld.make_ml_envs_test(name, seed, meta_batch, goals), in its order.

    Args:
        distribution: whose test goals they have.
        goals: of each test class, the first so many; an equal count for each of its environments.
        meta_batch: number of environments, an equal count for each test class.
        horizon: steps, after which an episode is cut off.
        reward_observed: whether to append the last action, its reward and 1 at an episode's end to
            observations (Meta-World's RNNBasedMetaRLWrapper); the reward as it is.
    """
    import metaworld

    test = distribution.held_out
    tasks = []
    for name, vectors in zip(test.classes, _goals(test.classes, test.seed), strict=True):
        size = _class(name, _Shared)()._random_reset_space.low.size
        shared = {"env_cls": _env_dict().ALL_V3_ENVIRONMENTS[name], "partially_observable": True}
        tasks += [
            metaworld._encode_task(name, {**shared, "rand_vec": vector[:size]})
            for vector in vectors[:goals]
        ]
    benchmark: Any = SimpleNamespace(
        test_classes={name: _class(name, _Bridged) for name in test.classes}, test_tasks=tasks
    )
    environments: gymnasium.vector.SyncVectorEnv = metaworld._make_ml_envs_inner(
        benchmark,
        meta_batch_size=meta_batch,
        seed=distribution.seed,
        split="test",
        terminate_on_success=True,
        task_select="pseudorandom",
        max_episode_steps=horizon,
        recurrent_info_in_obs=reward_observed,
        normalize_reward_in_recurrent_info=False,
    )
    return environments
