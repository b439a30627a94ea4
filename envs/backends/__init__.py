"""What steps the environments: MuJoCo, Gymnasium, numpy."""
