"""`s2ld benchmark ladder [options] [KEY VALUE ...]`: matchers side by side on every validation set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2ld.cli.benchmarks.matchers import add_options, build_matchers, source_of, times_line
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.log import keep, logger

if TYPE_CHECKING:  # it loads torch, which --help need not wait for
    from s2ld.benchmarks.matchers import MatcherRow

CONFIG = "validation"
"""The config whose DATA.VAL_SETS are measured."""
TABLES, NUMBERS = "ladder.md", "ladder.json"
"""Names of the files."""


def build_parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(
        "benchmark ladder",
        "Our matcher beside others on every validation set: all tables of the model card.",
        "DATA.POSED_PAIRS.ROOT my/pairs DATA.PHOTOS my/photographs DATA.LIGHT.ROOT my/light "
        "DATA.MEGADEPTH.TEST_ROOT my/scenes",
        f"The sets are those of DATA.VAL_SETS in configs/data/{CONFIG}.yaml; give it as KEY VALUE to measure others. "
        f"DIR gets {TABLES} and {NUMBERS} after each set, and caches, so that it goes on after a kill. Names of other "
        "matchers are told by s2ld benchmark matchers --help.",
        status="0 done; 1 some sets could not be measured, the others are done; 2 bad input; 130 Ctrl-C",
    )
    add_options(parser)
    parser.add_argument("--output", type=Path, default=Path("dump/ladder"), metavar="DIR", help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> tuple[dict[str, list[MatcherRow]], int]:
    """Run the command; return the rows by the name of the set, and how many sets could not be measured.

    Raises:
        S2LDError: bad arguments or weights; a matcher that was asked for is not installed; no set could be measured.
    """
    args = build_parser().parse_intermixed_args(argv)
    config = build_config([CONFIG], ["DATA.VAL_PAIRS", "0", *args.overrides])
    matchers, device, machine = build_matchers(args, config)
    from s2ld.benchmarks.matchers import flat_rows, measure, to_table
    from s2ld.data.sources.by_name import validation_set
    from s2ld.files import make_folder, whole_file
    from s2ld.locks import sole_writer

    make_folder(args.output)
    done: dict[str, list[MatcherRow]] = {}
    texts: list[str] = []
    numbers: dict[str, Any] = {}
    left_out = []
    with sole_writer(args.output):
        keep(args.output)
        for file in config.DATA.VAL_SETS:
            name = Path(file).stem
            try:
                own = _with_evaluation(validation_set(file, config), args.overrides)
                folder = args.output / name
                make_folder(folder)
                source = partial(source_of, limit=args.limit)
                rows, protocol = measure(matchers, source, own, folder, device, args.rounds)
            except S2LDError as error:  # of this set's data: what is measured already stays
                logger.warning("left out: {}: {}", name, error)
                left_out.append(str(error))
                continue
            done[name] = rows
            lines = [*protocol.lines(), times_line(args.rounds, machine)]
            texts.append("\n\n".join([f"## {name}", "\n".join(f"    {line}" for line in lines), to_table(rows)]))
            numbers[name] = {"protocol": asdict(protocol), "matchers": flat_rows(rows)}
            print(texts[-1], end="\n\n", flush=True)
            with whole_file(args.output / TABLES) as part:
                part.write_text("\n\n".join(texts) + "\n")
            with whole_file(args.output / NUMBERS) as part:
                part.write_text(json.dumps({"machine": machine, "sets": numbers}, indent=1, allow_nan=False) + "\n")
    if not done:
        raise S2LDError(f"no set could be measured; the first: {left_out[0] if left_out else 'DATA.VAL_SETS is empty'}")
    return done, len(left_out)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""
    return exit_status("s2ld benchmark ladder", lambda: min(1, main(argv)[1]))


def _with_evaluation(own: CN, overrides: Sequence[str]) -> CN:
    """Return a set's config with those overrides that say how it is evaluated."""
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    return build_config(overrides=[text for pair in pairs if pair[0].startswith("EVAL.") for text in pair], base=own)
