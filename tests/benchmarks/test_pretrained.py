"""Every initialization in pretrained/ still does what its stored evaluation says."""

import re

import numpy as np
import pytest

import maml_rl
from benchmarks.initializations import first_tasks_again, processor, stored_evaluation
from maml_rl.runs.checkpoint import digest
from maml_rl.runs.data import read_run
from maml_rl.runs.shipped import shipped_runs

LARGEST = 200_000  # bytes of a folder


def spread(result):
    """Standard deviation of a task's return within its stratum, by inner step, [K + 1]."""
    labels = np.array(result.strata or ["all"] * result.terms.num_tasks)
    within = [result.returns[:, labels == label] for label in sorted(set(labels))]
    return np.sqrt(np.mean([returns.var(axis=1) for returns in within], axis=0))


def test_there_is_one_for_the_demonstration():
    assert "half_cheetah_dir" in shipped_runs()


@pytest.mark.parametrize("name", shipped_runs())
def test_the_stored_returns_are_found_again(name, capsys):
    """To the bit on the processor of the evaluation; elsewhere rounding grows within an episode.

    Returns there are at worst another draw of the same distribution: the mean over m tasks then
    differs from the stored one by sqrt(2 / m) standard deviations, of which three are allowed.
    """
    folder = shipped_runs()[name]
    trained, result, run = maml_rl.load(folder), stored_evaluation(folder), read_run(folder)
    assert capsys.readouterr().err == ""  # no warning: today's environment is that of the training
    assert digest(trained.meta) == run.provenance["parameters_sha256"]
    again = first_tasks_again(trained, result)
    count = again.shape[1]
    stored = result.returns[: len(again), :count]
    if run.provenance["evaluated_on"] == processor():
        np.testing.assert_array_equal(again, stored)
    allowed = 3 * np.sqrt(2 / count) * spread(result)[: len(again)]
    assert (np.abs(again.mean(axis=1) - stored.mean(axis=1)) <= allowed + 1e-6).all()


@pytest.mark.parametrize("name", shipped_runs())
def test_it_is_small_and_names_no_place_of_a_machine(name):
    files = [path for path in shipped_runs()[name].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    texts = [path.read_text() for path in files if path.suffix != ".pt"]
    assert [text for text in texts if re.search(r"(?<!\w)/\w+/", text)] == []
