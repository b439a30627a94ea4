"""Meta-train: `python train.py experiment=half_cheetah_dir seed=1`; see conf/config.yaml."""

from maml_rl.commands.main import train_main

if __name__ == "__main__":
    train_main()
