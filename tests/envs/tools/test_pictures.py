"""Pictures: captions, frames put together, and the files they are written to."""

import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs

from envs import UserError
from envs.protocol import task_at
from envs.registry import build
from envs.tools import pictures
from tests.support.corridor import Corridor
from tests.support.films import gif, mp4


def grey(level, height=50, width=100):
    return np.full((height, width, 3), level, dtype=np.uint8)


def noise(count, size=64):
    """Pictures that no format makes small."""
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(size, size, 3), dtype=np.uint8) for _ in range(count)]


def test_captions_are_broken_and_cut():
    assert pictures.caption("goal (1.20, 0.31)", 320) == ["goal (1.20, 0.31)"]
    assert pictures.caption("", 320) == []
    lines = pictures.caption("mass " * 100, 320)
    assert len(lines) == pictures.LINES
    # letters are 16 high, 0.62 of it wide: 320 / 9.92 = 32.3 of them in a line
    assert all(len(line) <= 32 for line in lines)
    assert lines[-1].endswith(" ...")
    # the same letters in a line twice as wide: 64.5 of them
    assert max(map(len, pictures.caption("mass " * 100, 640, size=320))) in range(60, 65)


def test_pictures_lie_side_by_side_above_their_captions():
    sheet = pictures.side_by_side([grey(40), grey(90, 30)], [["one", "two"], ["three"]])
    # letters of 11 pixels make lines of round(15.4) = 15; two of them, three gaps of 8
    assert sheet.shape == (50 + 2 * 15 + 3 * 8, 3 * 8 + 2 * 100, 3)
    assert (sheet[8:58, 8:108] == 40).all()
    assert (sheet[8:38, 116:216] == 90).all()
    assert (sheet[38:58, 116:216] == 255).all()  # the lower picture's rest
    inked = (sheet < 100).any(-1)
    assert inked[66:81, 8:108].any()
    assert inked[81:96, 8:108].any()
    assert inked[66:81, 116:216].any()
    assert not inked[81:, 116:216].any()  # its caption has one line


def test_a_title_takes_the_lines_it_needs():
    plain = pictures.side_by_side([grey(40)], [["one"]])
    titled = pictures.side_by_side([grey(40)], [["one"]], "half_cheetah_dir, forward")
    # 116 pixels hold 116 / (0.62 * 11) = 17 letters: "half_cheetah_dir," and "forward"
    assert titled.shape[0] == plain.shape[0] + 2 * 15
    assert (titled[8:38] < 100).any()
    assert np.array_equal(titled[38:], plain[8:])


def test_a_picture_is_made_smaller_and_never_larger():
    assert pictures.shrunk(grey(40, 60, 100), 100).shape == (60, 100, 3)
    assert pictures.shrunk(grey(40, 60, 100), 500).shape == (60, 100, 3)
    small = pictures.shrunk(grey(40, 60, 100), 25)
    assert small.shape == (15, 25, 3)
    assert (small == 40).all()


def test_an_mp4_has_every_frame_and_even_sizes(tmp_path):
    path = tmp_path / "film.mp4"
    taken = []

    def frames():
        for level in (50, 100, 150, 200, 250):
            taken.append(level)
            yield grey(level, 51, 101)

    pictures.write_mp4(path, frames(), 10)
    assert taken == [50, 100, 150, 200, 250]
    assert count_frames_and_secs(str(path)) == (5, pytest.approx(0.5))
    for frame, level in zip(mp4(path, 52, 102), taken, strict=True):
        assert abs(frame[:48, :98].mean() - level) < 3  # the codec is not exact


def test_a_gif_holds_its_last_picture(tmp_path):
    path = tmp_path / "film.gif"
    levels = [50, 100, 150, 200]
    assert pictures.write_gif(path, [grey(level) for level in levels], 20) == 1
    frames, durations = gif(path)
    assert durations == [50, 50, 50, 1000]
    assert [int(frame[25, 50, 0]) for frame in frames] == pytest.approx(levels, abs=4)


def test_a_gif_keeps_the_time_where_a_hundredth_of_a_second_does_not_divide_it(tmp_path):
    path = tmp_path / "film.gif"
    pictures.write_gif(path, [grey(50 * level) for level in range(5)], 80)
    # at 12.5, 25, 37.5 and 50 ms, rounded to 10: 10, 20, 40, 50 (halves to the even)
    assert gif(path)[1] == [10, 10, 20, 10, 1000]


def test_a_gif_too_large_leaves_pictures_out_evenly(tmp_path):
    path = tmp_path / "film.gif"
    frames = noise(10)
    pictures.write_gif(path, frames, 20)
    whole = path.stat().st_size
    # of ten, every second and the last are six: a little more than 0.6 of the bytes, palettes
    assert pictures.write_gif(path, frames, 20, most_bytes=int(0.7 * whole)) == 2
    assert path.stat().st_size <= 0.7 * whole
    shown, durations = gif(path)
    assert durations == [100, 100, 100, 100, 50, 1000]  # frames 0, 2, 4, 6, 8, 9
    for frame, index in zip(shown, (0, 2, 4, 6, 8, 9), strict=True):
        nearest = [abs(frame - other.astype(int)).mean() for other in frames]
        assert int(np.argmin(nearest)) == index


def test_small_things_keep_their_colour_in_a_gif(tmp_path):
    frame = np.tile(np.linspace(0, 255, 200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    frame[40:45, 100:105] = (20, 200, 40)  # a green marker before shades of grey
    pictures.write_gif(tmp_path / "film.gif", [frame, 255 - frame, frame], 20)
    shown = gif(tmp_path / "film.gif")[0][0]
    assert np.abs(shown[42, 102] - [20, 200, 40]).max() < 20
    assert np.abs(shown - frame).mean() < 5


def test_actions_are_scaled_clipped_or_numbered():
    cheetah = build("half_cheetah_dir")  # policy outputs times 0.1, within 1
    assert pictures.applied(cheetah, np.array([3.0, -40.0])[[0, 0, 0, 1, 1, 1]]) == pytest.approx(
        [0.3, 0.3, 0.3, -1, -1, -1]
    )
    assert pictures.applied(build("random_mdp"), np.array(3)) == 3

    assert pictures.applied(Corridor(), np.full(2, 3.0)).tolist() == [1.0] * 2


def test_an_environment_that_cannot_choose_its_size_keeps_its_own():
    mdp = build("random_mdp")
    task = task_at(mdp.sample(1, np.random.default_rng(0)), 0)
    env = pictures.drawn_environment(mdp, task, 240)
    env.reset(seed=0)
    assert env.render().shape == (240, 240, 3)
    single = mdp.single
    mdp.single = lambda task, render_mode: single(task, render_mode)
    env = pictures.drawn_environment(mdp, task, 240)
    env.reset(seed=0)
    assert env.render().shape == (480, 480, 3)


def test_without_a_gymnasium_form_the_sentence_says_so():
    with pytest.raises(UserError, match="corridor has no Gymnasium form, which pictures"):
        pictures.drawn_environment(Corridor(), {}, 100)
