"""The one exception that this package raises for bad input."""


class S2LDError(ValueError):
    """Bad input: the message is one line that names the file, key or value and the remedy.

    Command-line scripts print the message and exit with status 2; a traceback means a defect of ours.
    """
