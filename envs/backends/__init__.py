"""Back ends that step environments: MuJoCo, Gymnasium, numpy."""
