"""A meta-learner: a policy, an inner loop that adapts it, an outer loop that trains its start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import torch

from envs.arguments import number
from envs.errors import ArgumentError
from envs.protocol import Tasks
from envs.recorded import Recorded
from maml_rl.algorithm.adaptation import AdaptationStep, Experience
from maml_rl.algorithm.advantages import AdvantageEstimator, Targets
from maml_rl.algorithm.baselines import Baseline, LearnedBaseline
from maml_rl.algorithm.diagnostics import gradient_rows, inner_step_metrics
from maml_rl.algorithm.inner_loop.loop import STATISTICS, InnerLoop, stack
from maml_rl.algorithm.moments import EPSILON, merged, no_rows
from maml_rl.algorithm.outer_loop import OuterOptimizer, OuterUpdate, PostAdaptationObjective
from maml_rl.algorithm.outer_loop.objectives import raise_unless_finite
from maml_rl.algorithm.outer_loop.terms import Term, entropy_bonus, exploration, exploration_credit
from maml_rl.algorithm.outer_loop.update import State
from maml_rl.algorithm.policies import Policy
from maml_rl.algorithm.rollout import Params, Rollout
from maml_rl.parallel import ALONE, Communicator
from maml_rl.randomness import Key, Purpose

RETURN = f"{STATISTICS}return"
BASELINE = f"{STATISTICS}baseline/"


class Collector(Protocol):
    """Runs M policies, each in its task."""

    num_tasks: int  # M

    def collect(self, params: Params, tasks: Tasks, key: Key) -> Rollout:
        """Run every task's policy (leaves [M, *s]) for one batch of episodes.

        Args:
            params: each task's parameters, leaves [M, *s].
            tasks: leaves [M, ...].
            key: address of the random numbers; the same key and parameters give the same rollout.
        """
        ...


class MetaLearner(Recorded):
    """MAML and its relatives (Finn et al. 2017, algorithm 3).

    The inner loop defines the meta-parameters, the adapted parameters and the estimator. The outer
    optimizer defines how the meta-parameters move. Many relatives of MAML differ only in these two.

    Args:
        policy: runs stacked parameters.
        baseline: fitted to every rollout, or learned over the iterations.
        inner: adapts.
        outer: updates the meta-parameters.
        name: of runs and results.
        discount: gamma.
        gae_lambda: lambda of the generalized advantages.
        standardize_advantages: per task and rollout.
        bootstrap_time_out: see `AdvantageEstimator`.
        held_out_baseline: see `AdvantageEstimator`.
        discounted_visits: see `AdvantageEstimator`.
        normalize_returns: divide rewards by the running standard deviation of returns to go, the
            same for all tasks, frozen within an iteration.
        exploration_weight: of E-MAML's term, which goes with inner.loss=log_likelihood; 1 is the
            exact gradient, 0 leaves it out.
        entropy_coefficient: of the entropy after adaptation in the outer loss; 0 leaves it out.
        device: where the outer loop computes; collection and its inner steps stay on the CPU.
    """

    def __init__(
        self,
        policy: Policy,
        baseline: Baseline | LearnedBaseline,
        inner: InnerLoop,
        outer: OuterOptimizer,
        name: str = "maml",
        discount: float = 0.99,
        gae_lambda: float = 1.0,
        standardize_advantages: bool = True,
        bootstrap_time_out: bool = False,
        held_out_baseline: bool = False,
        discounted_visits: bool = False,
        normalize_returns: bool = False,
        exploration_weight: float = 0.0,
        entropy_coefficient: float = 0.0,
        device: str = "cpu",
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            raise ArgumentError(f"name must be a word, such as maml, not {name!r}.", "name")
        self.policy, self.inner, self.outer, self.name = policy, inner, outer, name
        self.device = device
        self.learned = baseline if isinstance(baseline, LearnedBaseline) else None
        fitted = baseline.fitted if isinstance(baseline, LearnedBaseline) else baseline
        self.advantages = AdvantageEstimator(
            *(fitted, discount, gae_lambda, standardize_advantages),
            *(bootstrap_time_out, held_out_baseline, discounted_visits),
        )
        self.normalize_returns = normalize_returns
        self.exploration_weight = number("exploration_weight", exploration_weight, least=0)
        self.entropy_coefficient = number("entropy_coefficient", entropy_coefficient, least=0)
        self._check_fit()

    def _check_fit(self) -> None:
        """Refuse parts that do not fit together.

        Raises:
            UserError: naming the part, and what to write instead.
        """
        if self.normalize_returns and self.advantages.standardize:
            raise ArgumentError(
                "normalize_returns=true changes nothing where advantages are standardized: set "
                "standardize_advantages=false with it.",
                *("normalize_returns", "standardize_advantages"),
            )
        self.inner.adapted_names(self.policy)
        self.outer.check(self.inner, self.policy)
        self._check_baseline()
        for name in ("exploration_weight", "entropy_coefficient"):
            if getattr(self, name) > 0 and not self.outer.differentiates:
                raise ArgumentError(
                    f"{name} is a term of the outer loss, which "
                    f"outer={type(self.outer).__name__.lower()} has none of: set it to 0.",
                    name,
                )
        if self.exploration_weight > 0 and self.inner.steps == 0:
            raise ArgumentError(
                "exploration_weight > 0 needs inner.steps of at least 1.", "exploration_weight"
            )
        if self.exploration_weight > 0 and self.inner.loss_name != "log_likelihood":
            raise ArgumentError(
                f"exploration_weight > 0 needs inner.loss=log_likelihood: {self.inner.loss_name} "
                f"counts the sampling distribution's dependence already.",
                "exploration_weight",
            )
        if self.inner.loss_name == "dice" and self.advantages.gae_lambda != 1:
            raise ArgumentError(
                "inner.loss=dice sums whole returns: write gae_lambda=1, or "
                "inner.loss=loaded_dice.",
                "gae_lambda",
            )

    def _check_baseline(self) -> None:
        """Refuse options that a learned baseline has no use for.

        Raises:
            UserError: naming the option, and what to write instead.
        """
        if self.learned is None:
            return
        self._drawn_baseline(0)
        kind = type(self.learned).__name__
        if self.advantages.held_out_baseline and self.learned.fitted is None:
            raise ArgumentError(
                f"held_out_baseline=true changes nothing with {kind}, which is learned from "
                f"earlier iterations alone: write held_out_baseline=false.",
                "held_out_baseline",
            )
        if self.advantages.bootstrap_time_out:
            raise ArgumentError(
                f"bootstrap_time_out=true needs values that do not depend on time, which {kind} "
                f"does not fit: write bootstrap_time_out=false, or baseline=linear_feature.",
                "bootstrap_time_out",
            )

    def _drawn(self, seed: int) -> Params:
        """Draw the policy's parameters, leaves [*s]."""
        return self.policy.initialize(_generator(seed))

    def _drawn_baseline(self, seed: int) -> Params:
        """Draw a learned baseline's statistics under their names, leaves [*s]."""
        if self.learned is None:
            return {}
        size, steps = self.policy.observation_size, self.inner.steps
        return _stored(self.learned.initialize(_generator(seed, 0), size, steps))

    def initialize(self, seed: int) -> Params:
        """Draw the meta-parameters, and statistics at their start, leaves [*s] on the CPU."""
        meta = self.inner.meta_parameters(self.policy, self._drawn(seed))
        meta |= self._drawn_baseline(seed)
        if self.normalize_returns:
            meta |= no_rows(RETURN)
        return meta

    @torch.no_grad()
    def collect(
        self,
        collector: Collector,
        meta: Params,
        tasks: Tasks,
        steps: int,
        key: Key,
        later_scale: float | Sequence[float] = 1.0,
        before: Collector | None = None,
    ) -> Experience:
        """Collect and adapt in turn, `steps` times, and collect once more; no graph is kept.

        `before` collects what the inner steps learn from, where that is another number of episodes;
        None takes `collector` for all. Steps beyond the inner loop's number (beyond the first,
        where that is 0) are scaled by `later_scale`, or by its entries in turn; the last entry
        holds for all later steps.
        """
        params = self.inner.initial_params(stack(meta, collector.num_tasks))
        adaptation: list[AdaptationStep] = []
        for index in range(steps):
            earlier = [step.rollout for step in adaptation]
            rollout = (before or collector).collect(params, tasks, key.child(index))
            taken, params = self.adapt(meta, params, rollout, earlier, later_scale)
            adaptation.append(taken)
        last = collector.collect(params, tasks, key.child(steps))
        targets = self._targets(meta, last, [step.rollout for step in adaptation])
        return Experience([*adaptation, AdaptationStep(last, targets, params)])

    @torch.no_grad()
    def adapt(
        self,
        meta: Params,
        params: Params,
        rollout: Rollout,
        earlier: Sequence[Rollout] = (),
        later_scale: float | Sequence[float] = 1.0,
    ) -> tuple[AdaptationStep, Params]:
        """Take the inner step that follows those on `earlier` rollouts; no graph is kept.

        Args:
            meta: meta-parameters and statistics, leaves [*s].
            params: of the policies that collected the rollout, leaves [M, *s].
            rollout: of M tasks.
            earlier: of the same tasks, one for each step taken before.
            later_scale: see `collect`.

        Returns:
            The step, and the parameters after it, leaves [M, *s].
        """
        rows, targets = stack(meta, len(rollout.rewards)), self._targets(meta, rollout, earlier)
        scale = step_scale(len(earlier), self.inner.steps, later_scale)
        taken = self.inner.step(self.policy, params, rows, rollout, targets, scale)
        raise_unless_finite("inner gradient", gradient_rows(taken.grads))
        step = AdaptationStep(rollout, targets, params, taken.grads, taken.distribution)
        return step, taken.params

    def _targets(self, meta: Params, rollout: Rollout, earlier: Sequence[Rollout]) -> Targets:
        """Targets of a rollout that followed `earlier` ones of the same tasks."""
        values = None
        if self.learned is not None:
            values = self.learned.values_of(_loaded(meta), rollout, earlier)
        if not self.normalize_returns:
            return self.advantages(rollout, values)
        scale = (meta[f"{RETURN}_variance"] + EPSILON).rsqrt().to(rollout.rewards.dtype)
        rescaled = rollout._replace(rewards=rollout.rewards * scale)
        return self.advantages(rescaled, None if values is None else values * scale)

    def diagnostics(
        self, meta: Params, experience: Experience, ranks: Communicator = ALONE
    ) -> dict[str, float]:
        """Metrics of a healthy training: inner steps, baseline, exploration."""
        (explained,) = ranks.rows(experience.steps[0].targets.explained_variance)
        return {
            **inner_step_metrics(self.policy, experience.steps, ranks),
            "baseline/explained_variance": float(explained.mean()),
            **self.policy.metrics(self.inner.initial_params(meta)),
        }

    def outer_step(
        self,
        meta: Params,
        state: State,
        experience: Experience,
        progress: float = 0.0,
        ranks: Communicator = ALONE,
    ) -> OuterUpdate:
        """Replay the adaptation with its graph and update the meta-parameters.

        Args:
            meta: meta-parameters and statistics, leaves [*s].
            state: the outer optimizer's.
            experience: of this iteration, of this rank's tasks.
            progress: the fraction of the run that is done, for schedules.
            ranks: those that share the tasks.

        Returns:
            The update by the tasks of all ranks, the same on each.
        """
        on_device = {name: leaf.to(self.device) for name, leaf in meta.items()}
        fixed = {name: on_device.pop(name) for name in meta if self._is_fixed(name)}
        objective = PostAdaptationObjective(
            self.policy,
            self.inner,
            [step.to(self.device) for step in experience.steps],
            fisher_share=self.outer.fisher_share,
            terms=[*self.outer.terms(state), *self._terms(experience, ranks)],
            fixed=fixed,
            ranks=ranks,
        )
        update = self.outer.update(on_device, state, objective, progress)
        back = {name: update.meta.get(name, meta[name]).to("cpu") for name in meta}
        return OuterUpdate(
            back | self._statistics(meta, experience.rollouts, ranks), update.state, update.metrics
        )

    def _is_fixed(self, name: str) -> bool:
        return name in self.policy.fixed or name.startswith(STATISTICS)

    def _terms(self, experience: Experience, ranks: Communicator) -> list[Term]:
        """The terms that the algorithm adds to the outer optimizer's loss."""
        terms = []
        if self.exploration_weight > 0:
            last = experience.steps[-1]
            credit = exploration_credit(last.rollout, last.targets, ranks)
            terms.append(exploration(self.exploration_weight, credit.to(self.device)))
        if self.entropy_coefficient > 0:
            terms.append(entropy_bonus(self.entropy_coefficient))
        return terms

    def _statistics(self, meta: Params, rollouts: Sequence[Rollout], ranks: Communicator) -> Params:
        """Running statistics, and the learned baseline, with all ranks' `rollouts` merged in."""
        carried = self.learned is not None or self.normalize_returns
        if not carried and not self.policy.statistics(meta, []):
            return {}
        rollouts = [rollout.of_all(ranks) for rollout in rollouts]
        statistics = self.policy.statistics(meta, rollouts)
        if self.learned is not None:
            to_go = [self.advantages.returns(rollout) for rollout in rollouts]
            statistics |= _stored(self.learned.updated(_loaded(meta), rollouts, to_go))
        if self.normalize_returns:
            later = meta
            for rollout in rollouts:
                returns = self.advantages.returns(rollout)[rollout.mask > 0]
                later = later | merged(later, RETURN, returns)
            statistics |= {name: later[name] for name in no_rows(RETURN)}
        return statistics


def _generator(seed: int, *path: int) -> torch.Generator:
    """Generator of an initialization's random numbers."""
    numbers = Key(seed).generator(Purpose.INITIALIZATION, *path)
    return torch.Generator().manual_seed(int(numbers.integers(2**63)))


def _stored(statistics: Params) -> Params:
    """A learned baseline's statistics, by their names among the meta-parameters."""
    return {f"{BASELINE}{name}": leaf for name, leaf in statistics.items()}


def _loaded(meta: Params) -> Params:
    """A learned baseline's statistics among the meta-parameters, by its names."""
    return {
        name.removeprefix(BASELINE): leaf
        for name, leaf in meta.items()
        if name.startswith(BASELINE)
    }


def step_scale(step: int, trained: int, later_scale: float | Sequence[float]) -> float:
    """Scale of inner step `step`, from 0: 1 within the number trained with."""
    beyond = step - max(trained, 1)
    if beyond < 0:
        return 1.0
    if isinstance(later_scale, Sequence):
        return later_scale[min(beyond, len(later_scale) - 1)]
    return later_scale
