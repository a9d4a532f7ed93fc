"""Sources of data: files, folders and archives, a reader a format."""
