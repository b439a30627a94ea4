"""The promises of every task distribution, as checks."""

from envs.checking.authored import check_names
from envs.checking.contract import CHECKS, TaskDistributionContract, check, probe
from envs.checking.drawn import parameters, spaces_in_words
from envs.checking.endings import check_episodes
from envs.checking.pictures import check_trajectories
from envs.checking.promise import Check, Finding, NotApplicableError
from envs.checking.rehearsal import rehearse
from envs.checking.resets import check_determinism, check_leaks, check_resets
from envs.checking.single import check_single
from envs.checking.speed import check_speed
from envs.checking.steps import (
    check_active,
    check_copies,
    check_rows,
    check_shapes,
    check_tasks_differ,
)
from envs.checking.tasks import check_held_out, check_sampling, check_spaces, check_tasks

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "NotApplicableError",
    "TaskDistributionContract",
    "check",
    "check_active",
    "check_copies",
    "check_determinism",
    "check_episodes",
    "check_held_out",
    "check_leaks",
    "check_names",
    "check_resets",
    "check_rows",
    "check_sampling",
    "check_shapes",
    "check_single",
    "check_spaces",
    "check_speed",
    "check_tasks",
    "check_tasks_differ",
    "check_trajectories",
    "parameters",
    "probe",
    "rehearse",
    "spaces_in_words",
]
