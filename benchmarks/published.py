"""Published results on the tasks of docs/results.md, whose tables have them beside ours.

Return before adaptation and after one, two and three steps; None where it is not given. Bodies,
horizons and rewards differ from ours where the name says so: shapes carry over then, levels do not.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A row of someone else's results."""

    source: str
    returns: tuple[float | None, ...]  # after 0, 1, 2, 3 steps
    env_steps: str = ""  # millions, where known


FINN = "Finn et al. 2017 (H = 200, rllab's body)"
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "point_navigation": (
        Published("MAML, Finn et al. 2017", (-40.4, -11.7, -3.3, -3.2)),
        Published("random initialization, Finn et al. 2017", (-82.7, -58.0, -53.8, -46.8)),
        Published("oracle, Finn et al. 2017", (-2.3,)),
        Published("MAML, Raghu et al. 2020", (None, -20.3)),
        Published("ANIL, Raghu et al. 2020", (None, -20.1)),
    ),
    "half_cheetah_dir": (
        Published("MAML, pytorch-maml-rl run on current MuJoCo", (None, 207.0), "13.7"),
        Published("ProMP, its own code with these sizes", (None, 174.0), "8.9"),
        Published("MAML, RLlib (plot)", (-14.0, 200.0), "40"),
        Published("MAML, learn2learn (plot, 300 iterations)", (None, 270.0, None, 400.0)),
        Published("MAML, Raghu et al. 2020", (None, 170.4)),
        Published("ANIL, Raghu et al. 2020", (None, 363.2)),
        Published(f"MAML, {FINN}", (-50.7, 293.2, 313.5, 315.7)),
        Published(f"pretrained, {FINN}", (-43.0, -24.7, -12.8, 19.6)),
        Published(f"random initialization, {FINN}", (-35.7, 21.8, 62.3, 86.2)),
        Published(f"oracle, {FINN}", (442.7,)),
    ),
    "half_cheetah_vel": (
        Published("MAML, Raghu et al. 2020", (None, -139.0)),
        Published("ANIL, Raghu et al. 2020", (None, -120.9)),
        Published(f"MAML, {FINN}", (-129.5, -78.6, -66.6, -60.8)),
        Published(f"pretrained, {FINN}", (-158.0, -135.4, -128.5, -133.6)),
        Published(f"random initialization, {FINN}", (-254.8, -254.3, -246.8, -230.8)),
        Published(f"oracle, {FINN}", (-54.5,)),
    ),
    "ant_dir": (
        Published(f"MAML, {FINN}", (8.7, 499.1, 500.7, 499.1)),
        Published(f"pretrained, {FINN}", (3.2, 1.3, 6.5, 6.9)),
        Published(f"random initialization, {FINN}", (3.1, 9.2, 16.0, 26.1)),
        Published(f"oracle, {FINN}", (524.8,)),
    ),
}
