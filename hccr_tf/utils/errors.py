"""The package's own error."""


class HccrError(ValueError):
    """Something that the caller can mend: the message names the file and the remedy.

    The commands print it as one line; any other error, but for the system's `OSError`, is a bug
    of the package and shows its traceback.
    """
