"""Any number of ranks trains to the bit what a single process does, and can go on with its run."""

import json
import shutil

import pytest
import torch

from tests.support.ranks import begin_ranks, outputs
from tests.support.run_files import load, read_metrics, repeatable
from tests.support.smoke import go_on, train_smoke

TASKS = ("trainer.num_tasks=5", "trainer.validation_tasks=5")
CASES = {
    "trpo": ("algorithm=e_maml", "outer.fisher_share=0.4", "inner.steps=2"),
    "ppo": (
        *("algorithm=promp", "outer.target_inner_kl=0.01", "policy.normalize_observations=true"),
        *("algorithm.normalize_returns=true", "algorithm.standardize_advantages=false"),
    ),
    "adam": ("algorithm=maml_adam", "inner=meta_sgd", "baseline=shared_value_network"),
    "reptile": ("algorithm=reptile", "trainer.num_episodes_before=4"),
    "rl2": ("algorithm=rl2", "sampler.on_unstable=end_episode"),
    "linear": ("algorithm=maml_trpo", "trainer.best_by=return", "trainer.validate_every=3"),
}
RESUMED = ("trainer.iterations=4", *TASKS)

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from maml_rl.algorithm.meta_learner import MetaLearner
from maml_rl.configuration.building import build_trainer
from maml_rl.errors import NonFiniteError
from maml_rl.parallel import Distributed
from maml_rl.training.state import Progress
from tests.support.smoke import smoke_config

torch.set_num_threads(1)
folder, plan = Path(sys.argv[1]), json.loads(sys.argv[2])

def fail(*arguments, **options):
    if ranks.rank < 1:
        return collect(*arguments, **options)
    raise NonFiniteError("the reward of task 1, episode 0, step 3 is not finite")

with Distributed() as ranks:
    for name, options in plan.items():
        trainer = build_trainer(smoke_config(*options), folder / name, ranks)
        begin = trainer.resume if name == "resumed" else trainer.begin
        progress = begin() if ranks.rank == 0 else Progress({})
        trainer.run(progress)
    collect, MetaLearner.collect = MetaLearner.collect, fail
    trainer = build_trainer(smoke_config(*plan["trpo"]), folder / "failed", ranks)
    progress = trainer.begin() if ranks.rank == 0 else Progress({})
    try:
        trainer.run(progress)
    except NonFiniteError as error:
        print(json.dumps([str(error), progress.iteration]))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one process, and those of two and three ranks: folders and what they printed."""
    folder = tmp_path_factory.mktemp("ranks")
    plan = {name: [*options, *TASKS] for name, options in CASES.items()}
    train_smoke(folder / "1" / "resumed", *TASKS)
    begun = {}
    for size in (2, 3):
        shutil.copytree(folder / "1" / "resumed", folder / str(size) / "resumed")
        sent = json.dumps({**plan, "resumed": RESUMED})
        begun[size] = begin_ranks(PROGRAM, size, str(folder / str(size)), sent)
    for name, options in plan.items():
        train_smoke(folder / "1" / name, *options)
    go_on(folder / "1" / "resumed", *RESUMED)
    printed = {size: outputs(processes, timeout=600) for size, processes in begun.items()}
    return folder, printed


def same(one, other):
    """Whether two contents of a checkpoint are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def repeatable_content(path):
    """A checkpoint without its times and what follows from them."""
    content = load(path)
    return {key: content[key] for key in ("meta", "outer_state", "iteration", "best_validation")}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", [*CASES, "resumed"])
def test_ranks_train_what_a_single_process_does(name, size, runs):
    folder, _ = runs
    single, several = folder / "1" / name, folder / str(size) / name
    metrics = read_metrics(single)
    assert len(metrics) == (4 if name == "resumed" else 2)
    assert repeatable(read_metrics(several)) == repeatable(metrics)
    for checkpoint in ("last.pt", "best.pt"):
        one, other = (
            repeatable_content(path / "checkpoints" / checkpoint) for path in (single, several)
        )
        assert same(one, other), checkpoint


@pytest.mark.parametrize("size", [2, 3])
def test_an_error_of_one_rank_ends_all_with_its_sentence(size, runs):
    folder, printed = runs
    task = 1 + size  # the second task of rank 1
    sentence = f"iteration 1: the reward of task {task}, episode 0, step 3 is not finite"
    assert printed[size] == [json.dumps([sentence, 0]) + "\n"] * size
    stopped = json.loads((folder / str(size) / "failed" / "stopped.json").read_text())
    assert stopped == {"error": sentence}


def test_the_number_of_ranks_is_recorded(runs):
    folder, _ = runs
    origin = json.loads((folder / "3" / "resumed" / "provenance.json").read_text())
    assert (origin["ranks"], origin["resumed"][0]["ranks"]) == (1, 3)
