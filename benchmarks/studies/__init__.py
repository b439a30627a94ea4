"""Studies of what decides how fast meta-training learns: one factor at a time, data kept."""
