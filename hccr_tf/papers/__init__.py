"""One room a paper: its recipes, its tables and figures, its own numbers and ours."""
