"""Studies of learning: what is due, what a run is asked, what is kept of it."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.studies import learning
from benchmarks.studies.factors import STUDIES, Study
from benchmarks.studies.learning import StudyRun, due, kept_runs, thinned
from benchmarks.studies.tables import pooled_deviation, study_rows

STUDY = Study(
    ("env=point_navigation", "algorithm.gae_lambda=0.95"),
    1000,
    {"lambda": {"1.0": ["algorithm.gae_lambda=1.0"]}},
    seeds=(7, 8),
)


def kept(factor, setting, seed, steps=(10, 20), returns=(1.0, 3.0)):
    return StudyRun(factor, setting, seed, [], list(steps), list(returns), 1.0, "abc")


def test_a_setting_replaces_what_the_base_says():
    overrides = STUDY.overrides(["algorithm.gae_lambda=1.0"], 7)
    assert overrides[:2] == ["env=point_navigation", "algorithm.gae_lambda=1.0"]
    assert "trainer.env_steps=1000" in overrides
    assert overrides[-1] == "seed=7"


def test_what_is_kept_is_not_due():
    assert len(list(due(STUDY, []))) == 4
    left = list(due(STUDY, [kept("base", "base", 7), kept("lambda", "1.0", 8)]))
    assert [entry[:3] for entry in left] == [("lambda", "1.0", 7), ("base", "base", 8)]


def test_a_curve_is_thinned_to_means():
    steps, returns = thinned(np.arange(1, 7) * 100, np.array([1.0, 3, 5, 7, 9, 11]), points=3)
    assert steps == [200, 400, 600]
    assert returns == [2.0, 6.0, 10.0]


def test_the_return_at_a_mark_is_the_mean_nearby():
    run = kept("base", "base", 7, steps=(100, 200, 300), returns=(1.0, 2.0, 6.0))
    assert run.at(250, 60) == 4.0
    assert np.isnan(run.at(1000, 60))


def test_the_table_has_differences_with_the_pooled_interval():
    def seeds(factor, setting, *ends):
        return [
            kept(factor, setting, seed, steps=(50, 100), returns=(end / 2, end))
            for seed, end in zip((7, 8), ends, strict=True)
        ]

    runs = [
        *seeds("base", "base", 200.0, 204.0),
        *seeds("lambda", "1.0", 100.0, 108.0),
        *seeds("clip", "0.1", 205.0, 203.0),
        *seeds("lambda", "0.8", 210.0, 216.0),
    ]
    header, rows = study_rows(runs)
    assert header == ["", "setting", "at 5e-05M", "at 0.0001M", "against the base"]
    assert [row[:2] for row in rows] == [
        *(["base", ""], ["lambda", "1.0"], ["lambda", "0.8"], ["clip", "0.1"])
    ]
    # squares about the seeds' means: 2 x 2^2, 2 x 4^2, 2 x 1^2, 2 x 3^2 with 4 degrees of freedom
    ends = {(run.factor, run.setting): np.array([]) for run in runs}
    for run in runs:
        key = (run.factor, run.setting)
        ends[key] = np.append(ends[key], run.returns[-1])
    deviation, freedom = pooled_deviation(ends)
    assert (deviation**2, freedom) == (pytest.approx(15.0), 4)
    margin = 2.7764 * np.sqrt(15.0)  # Student's 97.5 % point of 4; two seeds against two
    assert rows[0][2:] == ["100, 102", "200, 204", ""]
    low, high = -98 - margin, -98 + margin
    assert rows[1][2:] == ["50, 54", "100, 108", f"-98 [{low:+.0f}, {high:+.0f}]"]
    _, single = study_rows([run for run in runs if run.seed == 7])
    assert single[1] == ["lambda", "1.0", "50", "100", "-100"]


@pytest.mark.parametrize("problem", sorted(STUDIES))
def test_every_override_of_the_studies_composes(problem):
    """Settings of different factors at once, where none chooses another file."""
    from hydra import compose, initialize_config_module

    study = STUDIES[problem]
    several = [list(settings.values()) for settings in study.factors.values()]
    together, alone = [], []
    for changed in itertools.chain.from_iterable(itertools.zip_longest(*several, fillvalue=[])):
        chooses = any("." not in override.partition("=")[0] for override in changed)
        (alone if chooses else together).append(changed)
    rounds = [[]]
    for changed in together:
        keys = {override.partition("=")[0] for override in changed}
        free = (
            chosen
            for chosen in rounds
            if not keys & {override.partition("=")[0] for override in chosen}
        )
        chosen = next(free, None)
        if chosen is None:
            rounds.append(chosen := [])
        chosen.extend(changed)
    with initialize_config_module("conf", version_base="1.3"):
        for changed in [[], *rounds, *alone]:
            overrides = study.overrides(changed, 7)
            assert compose("config", overrides).trainer.env_steps == study.env_steps
    assert sum(map(len, [*rounds, *alone])) == sum(map(len, itertools.chain(*several)))


def test_a_folder_is_named_without_signs_that_hydra_reads():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert learning.run_name("hidden units", "[32,32]", 107) == "hidden-units_-32-32-_107"
    names = [learning.run_name(*entry[:3]) for entry in due(STUDIES["half_cheetah_dir"], [])]
    assert len(set(names)) == len(names)
    for name in names:
        override = OverridesParser.create().parse_override(f"hydra.run.dir=runs/{name}")
        assert override.value() == f"runs/{name}"


def test_a_study_goes_on_with_what_is_due(tmp_path, monkeypatch):
    sizes = ("experiment=smoke", "algorithm=promp")
    study = Study(sizes, 200, {"lambda": {"1.0": ["algorithm.gae_lambda=1.0"]}}, seeds=(7,))
    monkeypatch.setitem(STUDIES, "tiny", study)
    (tmp_path / "kept").mkdir()
    base = json.dumps(asdict(kept("base", "base", 7)))
    (tmp_path / "kept/tiny.jsonl").write_text(f"{base}\n")
    for _ in range(2):  # the second time there is nothing to do
        learning.run("tiny", tmp_path / "runs", tmp_path / "kept")
    runs = kept_runs("tiny", tmp_path / "kept")
    assert [(run.factor, run.setting, run.seed) for run in runs] == [
        ("base", "base", 7),
        ("lambda", "1.0", 7),
    ]
    assert runs[0] == kept("base", "base", 7)
    (path,) = (tmp_path / "runs/tiny").iterdir()
    rows = (path / "metrics.jsonl").read_text().splitlines()
    assert runs[1].env_steps[-1] == json.loads(rows[-1])["env_steps"] >= 200
    assert {"algorithm.gae_lambda=1.0", "seed=7"} < set(runs[1].overrides)
    assert runs[1].cpu_seconds > 0
