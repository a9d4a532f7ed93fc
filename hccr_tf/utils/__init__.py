"""What every room stands on: files, the framework, progress and messages."""
