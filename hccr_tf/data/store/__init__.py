"""The store: checked images on disk, and what makes it of sources."""
