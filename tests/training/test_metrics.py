"""The table of metrics: everything that is made from it, and that nothing is missing in it."""

import pytest

from benchmarks import results
from maml_rl.training.metrics import (
    METRICS,
    SECTIONS,
    details,
    is_diagnostic,
    is_lap,
    metric_of,
    metric_table,
    panel_of,
)
from tests.support.run_files import read_metrics


def test_the_page_of_metrics_is_made_from_the_table():
    page = (results.ROOT / "docs" / "metrics.md").read_text()
    assert results.renewed(page) == page, "run `make results`"
    sections = {argument for _, name, argument, _ in results.BLOCK.findall(page)}
    assert sections == set(SECTIONS)


def test_every_metric_of_a_run_is_in_the_table(trained_run):
    keys = {key for entry in read_metrics(trained_run) for key in entry}
    keys |= {f"validation/{key}" for key in keys if key.startswith("return/")}
    assert [key for key in sorted(keys) if metric_of(key) is None] == []


def test_keys_are_unique_and_a_step_s_number_is_k():
    keys = [key for metric in METRICS for key in metric.keys]
    assert len(set(keys)) == len(keys)
    assert metric_of("validation/return/step_12") is metric_of("validation/return/step_1")
    assert metric_of("mine/entropy") is None


@pytest.mark.parametrize(
    ("key", "panel"),
    [
        ("outer/loss", ("outer loss", "before the step")),
        ("outer/loss_after", ("outer loss", "after the step")),
        ("gain/step_1", ("gain of each inner step (return)", "after 1 step")),
        ("gain/step_2", ("gain of each inner step (return)", "after 2 steps")),
        ("mine/entropy", ("mine/entropy", "before the step")),
        ("mine/loss_after", ("mine/loss", "after the step")),
    ],
)
def test_panels_of_the_report(key, panel):
    assert is_diagnostic(key)
    assert panel_of(key) == panel


def test_returns_and_times_are_no_diagnostics():
    for key in ("return/step_3", "validation/success/step_0", "seconds", "env_steps", "iteration",
                "seconds/mine"):  # fmt: skip
        assert not is_diagnostic(key)
    assert is_lap("seconds/sampling")
    assert not is_lap("seconds/share_sampling")


def test_the_console_s_line_has_the_table_s_words_and_formats():
    values = {"outer/kl": 0.0199, "gain/step_1": 0.0412, "seconds/share_sampling": 0.404}
    assert details(values) == "gain +0.0412  outer KL 0.0199  sampling 40%"


def test_a_table_has_units_where_its_metrics_have_some():
    assert metric_table("time").splitlines()[0] == "| key | what it is | unit | from |"
    assert metric_table("returns").splitlines()[0] == "| key | what it is | from |"
