"""The parser that every command uses: hyphens, old spellings, one form of help."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from s2ld.log import set_level

STATUS = "0 done; 2 bad input; 130 Ctrl-C"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` of `s2ld COMMAND` that takes ``--like_this`` for ``--like-this``.

    Its help ends with the exit statuses and an example.
    """

    def __init__(
        self,
        command: str,
        description: str,
        example: str,
        notes: str = "",
        status: str = STATUS,
        former: Mapping[str, str] | None = None,
    ) -> None:
        """Make the parser of a command.

        Args:
            command: its name, without `s2ld`.
            description: what it does.
            example: arguments that are a call of it.
            notes: what stands below the options.
            status: its exit statuses.
            former: earlier names of options, with hyphens, and their names of today.
        """
        paragraphs = [_wrap(text) for text in (notes, f"Exit status: {status}.") if text]
        super().__init__(
            f"s2ld {command}",
            description=_wrap(description),
            epilog="\n\n".join([*paragraphs, f"Example: s2ld {command} {example}"]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.former = former or {}
        told = self.add_argument_group("what is told beside the results").add_mutually_exclusive_group()
        told.add_argument("-q", "--quiet", action=_Tell, const="WARNING", help="warnings and errors alone, no bars")
        told.add_argument("-v", "--verbose", action=_Tell, const="DEBUG", help="more, with time and place")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is known, in today's spelling."""
        return super().parse_known_args(self._today(args), namespace)

    def parse_known_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is known, options among positional arguments, in today's spelling."""
        return super().parse_known_intermixed_args(self._today(args), namespace)

    def _today(self, args: Sequence[str] | None) -> list[str]:
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        return [*map(self._today_word, words[:end]), *words[end:]]

    def _today_word(self, word: str) -> str:
        if not word.startswith("--"):
            return word
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        return f"{self.former.get(name, name)}{equals}{value}"


class _Tell(argparse.Action):
    """An option that chooses a level (`s2ld.log.set_level`) and leaves nothing behind in the arguments."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, const=const, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: Any) -> None:
        set_level(self.const)


def _wrap(text: str) -> str:
    return textwrap.fill(text, max(40, shutil.get_terminal_size().columns - 2))
