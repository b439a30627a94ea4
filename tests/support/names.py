"""Sentences that hold the names of the initializations in pretrained/."""

from maml_rl.runs.shipped import shipped_runs

NO_SUCH_RUN = (
    "there is no such folder; give the folder of a run, or the name of a trained initialization: "
    f"{', '.join(shipped_runs())}."
)
