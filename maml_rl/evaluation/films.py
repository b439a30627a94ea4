"""Films of a policy before and after adaptation, rendered without a screen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import torch
from gymnasium import spaces

from envs.protocol import Array, Task
from envs.tools.pictures import (
    applied,
    drawn_environment,
    shrunk,
    side_by_side,
    write_gif,
    write_mp4,
)
from envs.tools.rendering import picture_of
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params
from maml_rl.files import replacing
from maml_rl.wording import number_format

SIZE = 400  # pixels of one policy's picture, where the environment lets it be chosen
LEAST = 240  # pixels of one picture, into which captions fit
GIF_WIDTH = 640  # pixels of the whole, at most
GIF_FRAMES, GIF_RATE = 150, 25.0  # in all and in a second, at most


class Moment(NamedTuple):
    """Where an episode is."""

    picture: Array  # [height, width, 3]
    total: float  # the return so far
    steps: int  # taken so far
    ended: bool = False  # it has ended, and others go on


def record(
    path: Path,
    distribution: Any,
    task: Task,
    policy: Policy,
    stages: Mapping[str, Params],
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[float]:
    """Film one episode of each stage side by side, by mean actions from the same initial state.

    Args:
        path: of the mp4; a smaller GIF is written beside it.
        distribution: of the task, with a `single` Gymnasium environment that draws itself.
        task: leaves without the leading M.
        policy: acts.
        stages: parameters, leaves [1, *s], by the caption of their picture ("before adaptation").
        seed: of the initial state.
        progress: called with the share of the film that is done.

    Returns:
        Each stage's return.

    Raises:
        UserError: if the environment cannot be drawn.
    """
    with ExitStack() as stack:
        envs = [
            stack.enter_context(closing(drawn_environment(distribution, task, SIZE)))
            for _ in stages
        ]
        episodes = [
            episode(env, distribution, policy, params, seed)
            for env, params in zip(envs, stages.values(), strict=True)
        ]
        rate, most = float(envs[0].metadata.get("render_fps", 20)), distribution.horizon + 1
        stride = math.ceil(max(most / GIF_FRAMES, rate / GIF_RATE))
        film = _Film(episodes, list(stages), _title(distribution, task), stride)
        with replacing(path) as partial:
            write_mp4(partial, film.frames(most, progress), rate)
    with replacing(path.with_suffix(".gif")) as partial:
        write_gif(partial, film.small, rate / stride)
    return film.returns


@dataclass
class _Film:
    """The frames of episodes side by side; a small copy of every n-th and of the last is kept.

    A long film is therefore never in memory as a whole.
    """

    episodes: Sequence[Iterator[Moment]]
    stages: Sequence[str]
    title: str
    stride: int  # n
    small: list[Array] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)

    def frames(self, most: int, progress: Callable[[float], None]) -> Iterator[Array]:
        """Yield the frames, `most` where no episode ends early."""
        largest = 0.0  # return so far, which sets the number of decimals
        for index, moments in enumerate(together(self.episodes)):
            self.returns = [moment.total for moment in moments]
            largest = max(largest, *map(abs, self.returns))
            frame = compose(moments, self.stages, self.title, number_format([largest]))
            progress(index / most)
            written = index % self.stride == 0
            if written:
                self.small.append(shrunk(frame, GIF_WIDTH))
            yield frame
        if not written:
            self.small.append(shrunk(frame, GIF_WIDTH))
        progress(1.0)


def episode(
    env: gymnasium.Env[Any, Any], distribution: Any, policy: Policy, params: Params, seed: int
) -> Iterator[Moment]:
    """Run one episode of mean actions; yield its initial state and the state after every step."""
    observation, _ = env.reset(seed=seed)
    state, first = policy.initial_state(1, 1), torch.ones(1, 1, 1)
    total, done = 0.0, False
    for steps in itertools.count():
        yield Moment(picture_of(env, distribution.name, "video=true"), total, steps)
        if done:
            return
        with torch.inference_mode():
            rows = torch.as_tensor(observation, dtype=torch.float32)[None, None, None]
            actions, _, state = policy.distribution(params, rows, state, first)
            action = actions.mode()[0, 0, 0].numpy()
        first = torch.zeros(1, 1, 1)
        observation, reward, ended, cut, _ = env.step(applied(distribution, action))
        total, done = total + float(reward), ended or cut


def together(episodes: Sequence[Iterator[Moment]]) -> Iterator[list[Moment]]:
    """Yield all episodes' moments step by step until the last has ended; the others stay still."""
    now: list[Moment] = [next(episode) for episode in episodes]
    while True:
        yield now
        following = [next(episode, None) for episode in episodes]
        if all(moment is None for moment in following):
            return
        now = [
            last._replace(ended=True) if moment is None else moment
            for last, moment in zip(now, following, strict=True)
        ]


def compose(moments: Sequence[Moment], stages: Sequence[str], title: str, form: str) -> Array:
    """Put one moment of all stages into a frame, [height, width, 3]; `form` is of returns."""
    pictures = [_enlarged(moment.picture) for moment in moments]
    captions = [[stage, _score(state, form)] for stage, state in zip(stages, moments, strict=True)]
    return side_by_side(pictures, captions, title)


def _score(moment: Moment, form: str) -> str:
    """The state of an episode in words, short enough for a line."""
    total = form.format(float(form.format(moment.total)) + 0.0)  # + 0: no "-0.0"
    text = f"step {moment.steps}, return {total}"
    return f"{text}, ended" if moment.ended else text


def _title(distribution: Any, task: Task) -> str:
    """Title of the frames."""
    discrete = isinstance(distribution.action_space, spaces.Discrete)
    actions = "most likely actions" if discrete else "mean actions"
    return f"{distribution.name}, {distribution.describe(task)} ({actions})"


def _enlarged(picture: Array) -> Array:
    """Repeat the pixels of a picture too small for its caption."""
    factor = -(-LEAST // picture.shape[1])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
