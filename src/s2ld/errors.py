"""The one exception that this package raises for bad input."""


class S2LDError(ValueError):
    """Bad input: the message is one line that names the file, key or value and the remedy.

    Command-line scripts print the message and exit with status 2; a traceback means a defect of ours.
    """


def as_one_line(error: S2LDError) -> S2LDError:
    """Return the error with its own line only: a loader process hands it over below the text of a traceback."""
    line = str(error).strip().splitlines()[-1]
    return S2LDError(line.removeprefix(f"{S2LDError.__module__}.{S2LDError.__name__}: "))


def first_sentence(error: BaseException) -> str:
    """Return the beginning of what a library says of an error, for a message of ours, or the name of its kind."""
    text = " ".join(str(error).split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") or type(error).__name__
