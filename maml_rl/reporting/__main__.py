"""`python -m maml_rl.reporting <folder>`: one HTML page of a run, or of several."""

from envs.tools.arguments import run
from maml_rl.reporting.report import report_command

if __name__ == "__main__":
    run(report_command)
