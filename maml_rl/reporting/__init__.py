"""Several runs side by side: groups, comparison, problems and the HTML page."""
