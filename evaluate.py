"""Evaluate adaptation: `python evaluate.py run=outputs/... steps=3`; see conf/evaluate.yaml."""

from maml_rl.commands.main import evaluate_main

if __name__ == "__main__":
    evaluate_main()
