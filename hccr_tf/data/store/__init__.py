"""Images written once, checked, and memory-mapped for training."""
