"""The commands that list, check and show task distributions."""
