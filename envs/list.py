"""`python -m envs.list`: see `envs.tools.list`."""

from envs.tools.arguments import run
from envs.tools.list import list_command

if __name__ == "__main__":
    run(list_command)
