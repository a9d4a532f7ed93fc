"""The HTTP server: a page, predictions for images, the Open Inference Protocol, metrics."""
