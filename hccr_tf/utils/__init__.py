"""Tools that know nothing of characters or networks."""
