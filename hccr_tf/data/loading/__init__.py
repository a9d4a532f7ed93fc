"""From a dataset's images to batches that a network takes."""
