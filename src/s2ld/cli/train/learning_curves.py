"""`s2ld learning-curves RUN ...`: loss and validation against the pairs seen, over phases, and their slopes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.files import whole_file

if TYPE_CHECKING:  # this loads more than --help needs
    from s2ld.training.history import History

LOSSES = ("loss/total", "loss/coarse", "loss/fine")
SCORES = ("score", "auc_10", "within_1px", "within_3px")
"""Of each validation source, as far as it has them."""
UNKNOWN = "-"


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "learning-curves",
        "Draw what a training has logged, and say what more of it would bring.",
        "logs/lite/1-crops logs/lite/2-small",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="output folders of its phases, in order")
    parser.add_argument(
        "--output", type=Path, default=Path("out/learning_curves.png"), help="picture (default: %(default)s)"
    )
    parser.add_argument("--hours", type=float, default=1.0, help="further training to look at (default: %(default)g)")
    return parser


def main(argv: Sequence[str] | None = None) -> History:
    """Draw the curves, print the table and return what was logged.

    Raises:
        S2LDError: a folder without logs, or a picture that cannot be written.
    """
    args = build_parser().parse_args(argv)
    if args.hours <= 0:
        raise S2LDError(f"--hours must be positive, not {args.hours:g}")
    need("train", "tensorboard", "matplotlib")
    from s2ld.training.history import read_history
    from s2ld.viz.curves import draw_learning

    history = read_history(args.runs)
    groups = {"loss": [name for name in LOSSES if name in history.curves]}
    groups |= {measure: names for measure in SCORES if (names := _validations(history, measure))}
    panels = {
        label: {name: (history.curves[name].pairs, history.curves[name].values) for name in names}
        for label, names in groups.items()
    }
    figure = draw_learning(panels, history.phases)
    with whole_file(args.output) as part:
        figure.savefig(part, format=args.output.suffix.removeprefix(".") or "png")
    print(_table(history, [name for names in groups.values() for name in names], args.hours))
    return history


def _validations(history: History, measure: str) -> list[str]:
    names = [name for name in history.curves if name.startswith("val_") and name.endswith(f"/{measure}")]
    return [*(["val/score"] if measure == "score" and "val/score" in history.curves else []), *names]


def _table(history: History, names: Sequence[str], hours: float) -> str:
    """Return values, slopes over the second half of the pairs, and what these promise, as a Markdown table."""
    from s2ld.training.history import LEAST_POINTS

    rate = _number(history.rate(), ".3g")
    lines = [
        f"{history.phases[-1]:,.0f} pairs in {len(history.phases)} phase(s), {rate} pairs/s in the last",
        "",
        f"| | first | last | a doubling of the pairs | {hours:g} h more, by that |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        curve = history.curves[name]
        values = [_number(value, ".4g") for value in (curve.values[0], curve.values[-1])]
        gains = [_number(value, "+.2g") for value in (curve.slope(), history.gain(name, 3600 * hours))]
        lines.append(f"| {' | '.join([name, *values, *gains])} |")
    if any(f"{UNKNOWN} " in line for line in lines):
        why = f"logged too rarely; a slope takes {LEAST_POINTS} values in the second half of the pairs"
        lines += ["", f"{UNKNOWN}: {why}"]
    return "\n".join(lines)


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else UNKNOWN


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld learning-curves", body)
