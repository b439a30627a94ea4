"""Metrics on the disk, TensorBoard's events, and the progress display."""

import json
import warnings
from io import StringIO

import pytest
from rich.console import Console

from maml_rl.training.loggers import RunLogger
from maml_rl.training.loggers.tensorboard import TensorBoard
from maml_rl.training.progress import Display, Heading, drawn_curve, duration
from tests.support.run_files import scalars
from tests.support.written_runs import line


def test_one_json_line_per_iteration_and_the_size_after_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logger = RunLogger(tensorboard=False, progress=False)
    with logger.open(path, 0, 0):
        for iteration in (1, 2):
            assert logger.write(line(iteration)) == path.stat().st_size
    read = [json.loads(text) for text in path.read_text().splitlines()]
    assert read == [line(1), line(2)]


def test_opening_again_cuts_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logger = RunLogger(tensorboard=False, progress=False)
    with logger.open(path, 0, 0):
        kept = logger.write(line(1))
        logger.write(line(2))
    with path.open("a") as file:
        file.write('{"iteration": 3, "env_')
    with logger.open(path, 1, kept):
        logger.write(line(2, again=1))
    read = [json.loads(text) for text in path.read_text().splitlines()]
    assert read == [line(1), line(2, again=1)]


def test_tensorboard_holds_the_same_numbers(tmp_path):
    logger = RunLogger(tensorboard=True, progress=False)
    with logger.open(tmp_path / "metrics.jsonl", 0, 0):
        kept = logger.write(line(1))
        logger.write(line(2))
    assert scalars(tmp_path, "return/step_1") == [(160_000, 6.0), (320_000, 7.0)]
    with logger.open(tmp_path / "metrics.jsonl", 160_000, kept):
        logger.write(line(2) | {"return/step_1": 70.0})
    assert scalars(tmp_path, "return/step_1") == [(160_000, 6.0), (320_000, 70.0)]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


def test_without_tensorboard_there_are_no_events(tmp_path):
    logger = RunLogger(tensorboard=False, progress=False)
    with logger.open(tmp_path / "metrics.jsonl", 0, 0):
        logger.write(line(1))
        logger.show(line(1), 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_an_error_closes_the_files(tmp_path):
    logger = RunLogger(tensorboard=True, progress=False)

    def fail():
        with logger.open(tmp_path / "metrics.jsonl", 0, 0):
            logger.write(line(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert scalars(tmp_path, "iteration") == [(160_000, 1.0)]


def test_plain_lines_where_the_output_is_no_terminal():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=False))
    with display.shown():
        display.update(line(1), 0.25)
        display.update(line(2) | {"validation/return/step_1": 6.25}, 0.5)
    assert out.getvalue().splitlines() == [
        # 4 s for a quarter of the run: 12 s are left
        "iteration 1  env steps 0.16M  steps/s 40000  return before -1.26  after 6.00  "
        "elapsed 0:00:04  left 0:00:12",
        "iteration 2  env steps 0.32M  steps/s 40000  return before -1.26  after 7.00  "
        "validation 6.25 (at 2)  elapsed 0:00:08  left 0:00:08",
    ]


def test_time_left_counts_from_where_a_run_was_resumed():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=False))
    # 30 iterations of 40 were done in 1000 s before; since then each takes 4 s
    display.update(line(31) | {"seconds": 1004.0}, 31 / 40)
    assert out.getvalue().rstrip().endswith("left 0:00:36")  # 9 iterations


def test_a_live_table_on_a_terminal():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=True, width=120))
    with display.shown():
        display.update(line(1), 0.25)
        display.update(line(2), 0.5)
    text = out.getvalue()
    assert "\x1b[" in text  # the table is redrawn in place
    for words in ("meta-training", "iteration", "env steps", "return before", "after", "left"):
        assert words in text
    assert "0.32M" in text
    assert "0:00:08" in text


def test_diagnostics_are_a_line_below_the_live_table():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=True, width=200))
    with display.shown():
        more = {"gain/step_1": 7.26, "inner/kl": 0.04321, "inner/grad_cosine": -0.126}
        more |= {"outer/kl": 0.0199, "outer/gradient_cosine": 0.5, "policy/std": 0.994}
        more |= {"outer/line_search_rejections": 2.0, "baseline/explained_variance": 0.83}
        display.update(line(1, **more, **{"seconds/share_sampling": 0.404}), 0.25)
    assert (
        "gain +7.26  inner KL 0.0432  inner gradients' cosine -0.13  outer KL 0.0199  "
        "outer gradients' cosine 0.50  rejections 2  explained variance 0.83  std 0.99  "
        "sampling 40%"
    ) in out.getvalue()


HEADING = Heading("point_navigation", "maml_trpo", 3, iterations=4, env_steps=640_000)


def test_what_is_trained_is_shown_before_the_first_iteration_ends():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=False), HEADING)
    with display.shown():
        assert out.getvalue() == (
            "point_navigation, maml_trpo, seed 3: iteration 1 of 4 is under way, up to 0.64M env "
            "steps\n"
        )
        display.update(line(1), 0.25)
    assert "iteration 1 of 4  env steps 0.16M of 0.64M  steps/s" in out.getvalue()
    resumed = Display(Console(file=out, force_terminal=False), HEADING._replace(iteration=2))
    with resumed.shown():
        assert "seed 3: iteration 3 of 4 is under way" in out.getvalue()


def test_the_live_table_has_names_a_bar_and_times_from_its_beginning():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=True, width=120), HEADING)
    with display.shown():
        assert (
            "point_navigation, maml_trpo, seed 3: iteration 1 of 4 is under way" in out.getvalue()
        )
        display.update(line(3), 0.75)
    text = out.getvalue()
    assert "meta-training: point_navigation, maml_trpo, seed 3" in text
    for words in ("3 of 4", "75%", "━", "elapsed", "0:00:12"):
        assert words in text


def test_the_learning_curve_grows_below_the_table():
    assert drawn_curve([1.0]) == "▁"
    assert drawn_curve([0.0, 7.0, 3.0, 3.4, 3.6]) == "▁█▄▄▅"
    assert drawn_curve([0.0, 2.0, 7.0, 7.0], width=2) == "▁█"  # means 1 and 7
    assert len(drawn_curve(range(1000))) == 60
    out = StringIO()
    display = Display(Console(file=out, force_terminal=True, width=120), HEADING)
    with display.shown():
        for after in (-3.0, 11.0, 3.0):
            display.update(line(1, **{"return/step_1": after}), 0.25)
    assert "▁█▄" in out.getvalue()
    assert "return from -3.0 to 11.0" in out.getvalue()


def test_names_with_brackets_are_shown_as_they_are():
    out = StringIO()
    heading = HEADING._replace(environment="arm [left]", algorithm="mine [/m]")
    display = Display(Console(file=out, force_terminal=True, width=120), heading)
    with display.shown():
        display.update(line(3), 0.75)
    assert "meta-training: arm [left], mine [/m], seed 3" in out.getvalue()


def test_the_last_validation_stays_and_decimals_follow_the_range():
    out = StringIO()
    display = Display(Console(file=out, force_terminal=False))
    small = {"return/step_0": -0.0131, "return/step_1": 0.25, "success/step_1": 0.5}
    checked = {"validation/return/step_1": 0.125, "validation/success/step_1": 0.25}
    display.update(line(1, **small) | checked, 0.25)
    display.update(line(2, **small), 0.5)
    display.update(line(3, **small) | {"return/step_1": 250.0}, 0.75)
    display.update(line(4, **small), 1.0)
    lines = out.getvalue().splitlines()
    words = "return before -0.013  after 0.250  success 0.50  validation 0.125, success 0.25 (at 1)"
    assert words in lines[0]
    assert "validation 0.125, success 0.25 (at 1)" in lines[1]
    assert "after 250.0" in lines[2]
    assert "after 0.2 " in lines[3]  # the run's largest return sets the decimals, once and for all


def test_the_configuration_and_hyperparameters_are_in_tensorboard(trained_run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    events = EventAccumulator(str(trained_run))
    events.Reload()
    (configuration,) = events.Tensors("configuration/text_summary")
    assert b"    seed: 0" in configuration.tensor_proto.string_val[0]
    contents = events.PluginTagToContent("hparams")
    session = HParamsPluginData.FromString(contents["_hparams_/session_start_info"])
    values = session.session_start_info.hparams
    assert values["inner.steps"].number_value == 1
    assert values["env._target_"].string_value == "envs.PointNavigation"
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment
    names = {info.name.tag for info in experiment.metric_infos}
    assert {"adaptation_gain", "return/step_0", "return/step_1"} <= names


def test_pictures_go_to_tensorboard_as_they_are(tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "own.png")
    logger = RunLogger(tensorboard=True, progress=False)
    logger.add_evaluation(
        tmp_path, 500, {"evaluation/return/step_1": 2.5}, {"evaluation/own": tmp_path / "own.png"}
    )
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (image,) = events.Images("evaluation/own")
    assert (image.step, image.width, image.height) == (500, 4, 3)
    assert image.encoded_image_string == (tmp_path / "own.png").read_bytes()
    assert scalars(tmp_path, "evaluation/return/step_1") == [(500, 2.5)]


def test_a_tensorboard_that_fails_costs_a_line_and_nothing_else(tmp_path, capsys, monkeypatch):
    def full(self, iteration, metrics):
        raise OSError("no space left on device")

    monkeypatch.setattr(TensorBoard, "log", full)
    logger = RunLogger(tensorboard=True, progress=False)
    with logger.open(tmp_path / "metrics.jsonl", 0, 0):
        logger.write(line(1))
        logger.write(line(2))
    read = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert read == [line(1), line(2)]
    assert capsys.readouterr().err.splitlines() == [
        "warning: TensorBoard gets no more metrics of this run, metrics.jsonl does "
        "(OSError: no space left on device)."
    ]


def test_the_logger_shows_progress_unless_told_not_to(tmp_path, capsys):
    logger = RunLogger(tensorboard=False, progress=True)
    with logger.open(tmp_path / "metrics.jsonl", 0, 0):
        logger.show(line(1), 1.0)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("iteration 1  env steps 0.16M")
    assert out[0].endswith("left 0:00:00")
    assert len(out) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360_000, "100:00:00")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
