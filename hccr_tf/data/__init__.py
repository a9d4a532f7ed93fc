"""From the data as people have it to a checked store, and from the store to batches."""
