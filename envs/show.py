"""`python -m envs.show`: see `envs.tools.show`."""

from envs.tools.arguments import run
from envs.tools.show import show_command

if __name__ == "__main__":
    run(show_command)
