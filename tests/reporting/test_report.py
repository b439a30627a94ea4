"""The page about runs: its sections and numbers, what failed, and how a browser takes it."""

import base64
import json
import os
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maml_rl.commands.report import report_command
from maml_rl.evaluation.protocol import Course
from maml_rl.evaluation.storage import to_json
from maml_rl.reporting import blocks, media
from maml_rl.reporting.problems import problems
from maml_rl.reporting.report import report
from maml_rl.reporting.sections import SECTIONS
from maml_rl.runs.data import read_run
from tests.support.paths import ROOT
from tests.support.written_runs import TWO, make_run, metrics_row, result_of, write_evaluation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VOID = ("meta", "img", "br")
NAMES = [name for name, _ in SECTIONS.values()]


class Page(HTMLParser):
    """Checks that tags nest, ids are unique and pictures have texts; keeps what was in the page."""

    def __init__(self, path):
        super().__init__()
        self.open, self.ids, self.tags, self.headings = [], [], [], []
        self.html = Path(path).read_text()
        self.feed(self.html)
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        self.text = unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", self.html)))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            assert len(values["alt"]) > 3
        if tag == "video":
            assert values["aria-label"]
        if tag in ("h1", "h2", "h3"):
            self.headings.append([int(tag[1]), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1][1] += data

    def sources(self, tag):
        return [values["src"] for name, values in self.tags if name == tag]

    def alts(self):
        return [values["alt"] for name, values in self.tags if name == "img"]


def add_provenance(path, **changes):
    """Write what train.py records of where a run came from, and an empty checkpoint folder."""
    said = {
        "git_commit": "abc123",
        "git_modified": False,
        "command": ["train.py", "seed=<0>"],
        "python": "3.11.7",
        "versions": {"torch": "2.13.0", "learn2learn": None},
        "machine": {"processor": "A & B", "cores": 2},
    }
    (path / "provenance.json").write_text(json.dumps({**said, **changes}))
    return path


def fine_run(path, **options):
    """Make a run with nothing wrong but that its weights are missing."""
    return add_provenance(make_run(path, **options))


@pytest.fixture
def quick(monkeypatch):
    """Leave the drawing of the figures out, where their texts are what counts."""
    monkeypatch.setattr(blocks, "svg", lambda figure: b"<svg/>")


NO_WEIGHTS = "There is no checkpoint."


def test_the_page_of_one_run(tmp_path, quick):
    path = report([fine_run(tmp_path / "run", seed=3)])
    assert path == tmp_path / "run" / "report.html"
    page = Page(path)
    assert page.html.startswith('<!doctype html>\n<html lang="en">')
    assert page.headings == [
        [1, "point_navigation, maml_trpo, seed 3"],
        *([2, name] for name in NAMES),
    ]
    assert set(SECTIONS) < set(page.ids)
    linked = [values["href"] for tag, values in page.tags if tag == "a" and "href" in values]
    assert {link.removeprefix("#") for link in linked} == set(SECTIONS)
    for words in (
        *("abc123", "train.py seed=<0>", "torch 2.13.0, python 3.11.7", "processor A & B"),
        "experiment=mine seed=3",
        "4 test tasks, 20 episodes per task and step, checkpoint best",
        "25.0 [",  # the mean of 10, 20, 30, 40
        "Gain of the first step, per task: 24.5 [",
        "500 environment steps per second in all",  # 3000 in 6 seconds
    ):
        assert words in page.text
    assert "learn2learn None" not in page.text


def test_what_the_pictures_show_is_said(tmp_path, quick):
    alts = Page(report([fine_run(tmp_path / "run")])).alts()
    assert alts == [
        "Learning curves. At the end, before adaptation, training tasks: -3; after 1 step, "
        "training tasks: 30.",
        "Adaptation curve with its 95 % band over tasks. Mean return before adaptation 0.5, "
        "after 1 step 25.",
        "Each task's return before and after one step. 4 of 4 tasks gain; the gains range from 9 "
        "to 44.",
        "Diagnostics of training by iteration. In the last: KL divergence of the outer step 0.003; "
        "outer step accepted (1) or not (0) 1; outer loss 0.5 and 0.25.",
        # 1.5, 0.4 and what is left of 2 seconds
        "Seconds of each iteration by part: sampling 75 %, outer loop 20 %, other 5 % of the "
        "whole.",
    ]


def test_the_robust_statistics_stand_beside_the_means(tmp_path, quick):
    # of four tasks the lower fifth is the lowest: -4 before the step, and 1 after it, where one
    # task is worse than before, 1 < 2
    returns = [[1.0, 2.0, 3.0, -4.0], [10.0, 1.0, 3.5, 2.0]]
    page = Page(report([fine_run(tmp_path / "run", returns=returns)]))
    words = " ".join(page.text.split())
    assert "return, all tasks lower fifth of tasks share worse interquartile mean" in words
    assert "Share worse: tasks with a lower return than before adaptation" in words
    for cell in ("-4.00 [-4.00, ", "1.00 [1.00, ", "0.25 [0.00, 0.75]"):
        assert cell in words
    other = fine_run(tmp_path / "other", returns=returns, algorithm__name="promp")
    both = " ".join(Page(report([tmp_path / "run", other], tmp_path / "all.html")).text.split())
    assert "lower fifth of tasks after 1 step gain of the first step share worse after 1" in both


def test_a_learner_with_memory_has_episodes_for_steps(tmp_path, quick):
    episodes = np.array([TWO[0]] * 20 + [TWO[1]])  # 20 seen, and one after them
    memory = to_json(result_of(TWO, within=Course(episodes, episodes, episodes)))
    page = Page(report([fine_run(tmp_path / "run", evaluation=memory)]))
    assert "Gain of the first 20 episodes, per task: 24.5 [" in page.text
    assert any(
        "return in the first episode and after 20. 4 of 4 tasks" in alt for alt in page.alts()
    )
    assert "episodes seen" in page.text


def test_pictures_are_drawings_within_the_page(tmp_path):
    page = Page(report([fine_run(tmp_path / "run")]))
    for source in page.sources("img"):
        kind, content = source.split(";base64,")
        assert kind == "data:image/svg+xml"
        assert b"<svg" in base64.b64decode(content)
    outside = [v for _, values in page.tags for v in values.values() if v and "://" in v]
    assert outside == []


def test_the_same_run_gives_the_same_page(tmp_path):
    fine_run(tmp_path / "run")
    texts = [
        report([tmp_path / "run"], tmp_path / name).read_text() for name in ("a.html", "b.html")
    ]
    assert texts[0] == texts[1]


def test_several_runs_are_compared_and_each_has_its_sections(tmp_path, quick):
    for name, seed, algorithm in (("a", 0, "maml_trpo"), ("b", 1, "maml_trpo"), ("c", 0, "anil")):
        fine_run(tmp_path / "sweep" / name, seed=seed, algorithm__name=algorithm)
    fine_run(tmp_path / "sweep" / "d", returns=None, seed=7)
    page = Page(report([tmp_path / "sweep"]))
    assert [name for level, name in page.headings if level < 3] == [
        "4 runs of point_navigation",
        *("All runs", "Comparison: point_navigation", "Each run"),
    ]
    assert [name for level, name in page.headings if level == 3] == NAMES * 4
    assert "P(better than maml_trpo) after 1 step" in page.text
    assert "not evaluated" in page.text
    assert any(alt.startswith("Learning and adaptation curves. maml_trpo: 0.5 bef") for alt in
               page.alts())  # fmt: skip
    assert {"run-0", "run-3", "run-3-failed", "comparison-0"} < set(page.ids)


def test_environments_are_compared_apart_and_refusals_are_shown(tmp_path, quick):
    fine_run(tmp_path / "a")
    fine_run(tmp_path / "b", seed=1, evaluation={"num_episodes": 7})
    for seed in (0, 1):
        fine_run(tmp_path / f"c{seed}", seed=seed, evaluation={"env": "ant_dir"})
    page = Page(report([tmp_path / name for name in ("a", "b", "c0", "c1")], tmp_path / "x.html"))
    assert "Comparison: ant_dir" in [name for _, name in page.headings]
    assert "Not compared: " in page.text
    assert "num_episodes=7" in page.text
    assert "2 groups" not in page.text


def test_a_run_that_never_began_has_a_page(tmp_path):
    page = Page(report([make_run(tmp_path / "run", None, iterations=0)]))
    assert [name for level, name in page.headings if level == 2] == NAMES
    assert page.text.count("No iteration was finished.") == 3
    assert "python evaluate.py run=" in page.text
    assert page.sources("img") == []
    for words in ("0 of 3 iterations", "There is no evaluation", "provenance.json is missing"):
        assert words in page.text


def test_everything_is_escaped(tmp_path, quick):
    nasty = "<script>alert('1')</script>&\""
    path = tmp_path / "a<b>&'\"c"
    said = {"checkpoint": nasty}
    fine_run(path, algorithm__name=nasty, evaluation=said)
    with (path / ".hydra/config.yaml").open("a") as file:
        file.write(f"note: |\n  {nasty}\n")
    add_provenance(path, git_commit=nasty)
    (path / "evaluation" / "film <i>.mp4").write_bytes(b"film")
    fine_run(tmp_path / "other", algorithm__name="<b>")
    for places in ([path], [path, tmp_path / "other"]):
        page = Page(report(places, tmp_path / "page.html"))
        assert {tag for tag, _ in page.tags} & {"script", "i", "b"} == set()
        assert "alert('1')" in page.text


def test_films_are_in_the_page_or_linked(tmp_path, monkeypatch, quick):
    monkeypatch.setattr(media, "LARGEST_FILE", 10)
    folder = fine_run(tmp_path / "run") / "evaluation"
    (folder / "before_adaptation.mp4").write_bytes(b"small")
    (folder / "after & one.mp4").write_bytes(b"larger than ten")
    (folder / "before_adaptation.gif").write_bytes(b"twin")
    (folder / "paths.png").write_bytes(b"picture")
    (folder / "adaptation.png").write_bytes(b"own")
    page = Page(report([tmp_path / "run"]))
    assert page.sources("video") == ["data:video/mp4;base64,c21hbGw="]
    assert page.sources("img")[-1] == "data:image/png;base64,cGljdHVyZQ=="
    assert page.alts()[-1] == "paths"
    assert "before adaptation" in page.text
    (folder / "films.json").write_text('{"before_adaptation.mp4": "1.09 m/s: before, after"}')
    assert "1.09 m/s: before, after" in Page(report([tmp_path / "run"])).text
    assert not [source for source in page.sources("img") if "image/gif" in source]  # the film is in
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert "evaluation/after%20%26%20one.mp4" in links
    page = Page(report([tmp_path / "run"], tmp_path / "out" / "page.html"))
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert "../run/evaluation/after%20%26%20one.mp4" in links
    monkeypatch.setattr(media, "LARGEST_PAGE", 6)
    page = Page(report([tmp_path / "run"]))
    assert len(page.sources("video")) == 1
    assert "paths (0.0 MB" in page.text


def test_what_an_earlier_evaluation_left_is_said_to_be_that(tmp_path, quick):
    folder = fine_run(tmp_path / "run") / "evaluation"
    for name in ("paths.png", "grid.png", "tasks.png"):
        (folder / name).write_bytes(b"picture")
    made = (folder / "evaluation.json").stat().st_mtime
    os.utime(folder / "paths.png", (made - 5, made - 5))
    os.utime(folder / "grid.png", (made - 5, made - 5))  # of grid.json, which is another's
    alts = Page(report([tmp_path / "run"])).alts()[-3:]
    assert alts[0].startswith("return against the parameter of a grid")
    assert alts[1] == "paths (of an earlier evaluation)"
    assert alts[2] == "the run's validation and test tasks"


def test_nothing_wrong(tmp_path, trained_run, evaluate_cli, quick):
    shutil.copytree(trained_run, "run")
    evaluate_cli("run=run", "num_episodes=2", "steps=1", "threads=1")
    found = [line for line in problems(read_run(Path("run"))) if "uncommitted" not in line]
    gained = [line for line in found if line.startswith("The first inner step")]
    assert found == gained  # two iterations teach nothing
    assert "Results" in Page(report(["run"])).text


def test_unfinished_runs(tmp_path):
    run = read_run(fine_run(tmp_path / "a", iterations=2))
    expected = (
        f"Training did not finish: 2 of 3 iterations; python train.py resume={run.path} goes on."
    )
    assert problems(run) == [expected, NO_WEIGHTS]
    by_steps = {"trainer__iterations": None, "trainer__env_steps": 3500}
    line = problems(read_run(fine_run(tmp_path / "b", **by_steps)))[0]
    assert line.startswith("Training did not finish: 3000 of 3500 environment steps;")
    by_steps["trainer__env_steps"] = 3000
    assert problems(read_run(fine_run(tmp_path / "c", **by_steps))) == [NO_WEIGHTS]
    with run.folder.locked():
        assert problems(run)[0] == "Training is under way: 2 of 3 iterations."
    (run.path / "stopped.json").write_text('{"error": "iteration 3: the loss is nan"}')
    assert problems(run)[0] == "Training stopped with an error: iteration 3: the loss is nan"


def test_damaged_checkpoints_and_an_evaluation_that_is_older(tmp_path, trained_run):
    path = tmp_path / "run"
    shutil.copytree(trained_run, path)
    write_evaluation(path, TWO, {})
    (path / "checkpoints/best.pt").touch()
    (path / "checkpoints/last.pt").write_bytes(b"cut short")
    found = problems(read_run(path))
    assert len([line for line in found if line.startswith("Damaged checkpoint: ")]) == 1
    assert any("last.pt is damaged" in line for line in found)
    (path / "tasks.json").write_text("{}")
    assert any("tasks.json is damaged" in line for line in problems(read_run(path)))
    older = "The evaluation does not say of which iteration it is, and best.pt is of iteration "
    assert any(line.startswith(older) for line in problems(read_run(path)))


def test_metrics_that_are_wrong(tmp_path, quick):
    path = fine_run(tmp_path / "run", iterations=0)
    rows = [metrics_row(i, 5.0) for i in range(1, 9)]
    rows[0]["seconds/share_sampling"] = 0.75
    rows[2]["outer/kl"] = rows[5]["outer/kl"] = float("nan")
    for row in rows[:2]:
        row["outer/accepted"] = 0.0
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert problems(read_run(path)) == [
        NO_WEIGHTS,
        "outer/kl is not a finite number in 2 of 8 iterations, first in iteration 3.",
        "2 of 8 outer steps were rejected (25 %).",
    ]
    assert "share sampling" not in Page(report([path])).text


def test_a_first_step_that_gains_nothing(tmp_path):
    # gains of 1, -1, 1, -1 and of -3, -1, -2, -4
    lines = [
        problems(read_run(fine_run(tmp_path / name, returns=[[0, 0, 0, 0], gains])))[-1]
        for name, gains in (("a", [1, -1, 1, -1]), ("b", [-3, -1, -2, -4]))
    ]
    assert lines == [
        "The first inner step gains nothing that can be told from 0: 0.00 [-1.00, 1.00] per task.",
        "The first inner step loses: -2.50 [-3.50, -1.50] per task.",
    ]


def test_a_run_that_was_not_trained_to_take_steps_need_not_gain_from_one(tmp_path):
    run = fine_run(tmp_path / "a", returns=[[3] * 4, [1] * 4], evaluation={"trained_steps": 0})
    assert problems(read_run(run)) == [NO_WEIGHTS]


def test_what_resumed_sessions_changed_is_told(tmp_path, quick):
    run = fine_run(tmp_path / "run")
    session = {"iteration": 2, "changed": {"trainer.iterations": 7}, "git_modified": True}
    (run / "provenance.json").write_text(json.dumps({"git_commit": "c", "resumed": [session]}))
    text = Page(report([run])).text
    assert "at iteration 2; changed: trainer.iterations=7; commit unknown with uncommitted" in text
    assert "iterations: 7" in text
    assert "Training did not finish: 3 of 7 iterations" in text
    assert any("uncommitted changes" in line for line in problems(read_run(run)))
    (run / "provenance.json").write_text(json.dumps({"resumed": [session]}))
    assert any("provenance.json is missing" in line for line in problems(read_run(run)))


def test_code_with_changes_and_kept_runs(tmp_path):
    run = read_run(add_provenance(make_run(tmp_path / "run"), git_modified=True))
    assert problems(run)[-1].startswith("The code had uncommitted changes")
    assert (
        problems(read_run(ROOT / "results/half_cheetah_dir/seed_1.json")) == []
    )  # kept, no weights


def test_many_iterations_are_drawn_by_means(tmp_path):
    page = Page(report([fine_run(tmp_path / "run", iterations=3000)]))
    assert len(page.html) < 600_000


def test_the_command(call, work, quick):
    make_run(work / "run")
    done = call(report_command, "run")
    assert (done.status, done.out, done.err) == (0, "report: run/report.html\n", "")
    done = call(report_command, "run", "ru*", "out=pages/x.html")
    assert done.out == "report: pages/x.html\n"
    assert call(report_command, "r*").out == "report: report.html\n"
    assert "usage: python -m maml_rl.commands.report <folder>" in call(report_command, "--help").out
    (work / "taken").touch()
    (work / "a.html").mkdir()
    for arguments, words in [
        ((), " -m maml_rl.commands.report <run folder>."),
        (("nowhere",), "folder=nowhere: there is no such folder"),
        (("pages",), "folder=pages holds no run"),
        (("--fast", "run"), "--fast is unknown; give folders of runs, and out=<page>."),
        (("run", "out=run"), "out=run is to be a page: give it a name that ends in .html."),
        (("run", "out=x.pdf"), "out=x.pdf is to be a page: give it a name that ends in .html."),
        (("run", "out=a.html"), "out=a.html is a folder: give the name of the page"),
        (("run", "ot=x.html"), "ot=x.html is unknown; give folders of runs, and out=<page>."),
        (("run", "out=taken/x.html"), "out=taken/x.html cannot be written: "),
    ]:
        refused = call(report_command, *arguments)
        assert (refused.status, refused.out) == (2, "")
        assert words in refused.error


def browse(page, folder, *options):
    """Render a page in a headless browser: (DOM, lines of the console, requests of the page)."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
            *("--enable-logging=stderr", f"--log-net-log={log}", *options, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    requests = {
        event["url"]
        for event in events
        if "url" in event and event.get("initiator", "not an origin") != "not an origin"
    }  # the browser's own requests have no origin
    return done.stdout, console, requests


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@needs_browser
def test_the_browser_s_complaints_and_requests_are_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><title>x</title><p id="here">text</p><img src="http://127.0.0.1:9/x.png">'
        "<script>console.error('a fault')</script>"
    )
    dom, console, requests = browse(page, tmp_path, "--dump-dom")
    assert '<p id="here">text</p>' in dom
    assert len(console) == 1
    assert "a fault" in console[0]
    assert requests == {"http://127.0.0.1:9/x.png"}


@needs_browser
def test_the_sections_in_a_browser(tmp_path):
    page = report(sorted((ROOT / "results/half_cheetah_dir").iterdir())[:2], tmp_path / "page.html")
    dom, console, requests = browse(page, tmp_path, "--dump-dom")
    assert (console, requests) == ([], set())
    for name in NAMES:
        assert dom.count(f">{name}</h3>") == 2
    assert ">Comparison: half_cheetah_dir</h2>" in dom
    assert "<td>maml_trpo</td><td>2</td><td>12</td>" in dom


@pytest.fixture(scope="module")
def kept_page(tmp_path_factory):
    """The page of a kept run."""
    folder = tmp_path_factory.mktemp("page")
    return report([ROOT / "results/half_cheetah_dir/seed_0.json"], folder / "page.html")


@needs_browser
@pytest.mark.parametrize(("light", "background"), [(0, (21, 25, 29)), (1, (255, 255, 255))])
def test_the_page_on_a_dark_and_on_a_light_screen(kept_page, tmp_path, light, background):
    picture = tmp_path / "page.png"
    shown = (f"--screenshot={picture}", "--window-size=1000,1800")
    _, console, requests = browse(
        kept_page, tmp_path, *shown, f"--blink-settings=preferredColorScheme={light}"
    )
    assert (console, requests) == ([], set())
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    assert len(pixels) == 1_800_000
    assert tuple(pixels[0]) == background
    blue = (pixels == (27, 108, 168)).all(axis=1)  # the first colour of the figures' lines
    assert blue.sum() > 300
