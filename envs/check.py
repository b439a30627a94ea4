"""`python -m envs.check`: see `envs.tools.check`."""

from envs.tools.arguments import run
from envs.tools.check import check_command

if __name__ == "__main__":
    run(check_command)
