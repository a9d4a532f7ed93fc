"""Our schedules and comparisons."""
