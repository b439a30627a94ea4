"""The promises of every task distribution, as checks."""

from envs.checking.contract import CHECKS, TaskDistributionContract, check, probe
from envs.checking.drawn import parameters, spaces_in_words
from envs.checking.promise import NotApplicableError
from envs.checking.rehearsal import rehearse
from envs.checking.single import check_single
from envs.checking.steps import check_shapes, check_tasks_differ
from envs.checking.tasks import check_held_out
from envs.checking.whole import check_speed

__all__ = [
    "CHECKS",
    "NotApplicableError",
    "TaskDistributionContract",
    "check",
    "check_held_out",
    "check_shapes",
    "check_single",
    "check_speed",
    "check_tasks_differ",
    "parameters",
    "probe",
    "rehearse",
    "spaces_in_words",
]
