"""The folder of one run, and the list of many."""
