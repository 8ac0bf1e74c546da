"""`s2ld test`, also `test.py`: predict a data source into a cache, evaluate the cache, write the report."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.match.options import add_matcher_options, build_from, matcher_name
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import CN, build_config, config_keys, value_of
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.log import keep, logger
from s2ld.pretrained import DEFAULT, resolve

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.data.sample import PairSource
    from s2ld.evaluation.predictions.cache import CacheHeader
    from s2ld.models.network import S2LD

AUTHORS_WEIGHTS = Path("weights/s2ld-e2e-inference.pt")
"""Where the README has users put the authors' file."""
RUN_TIME_KEYS = (
    *("MODEL.MATCH.", "MODEL.FINE.WINDOW_MODE", "MODEL.FINE.THRESHOLD", "MODEL.SCORE_FILTER."),
    *("MODEL.REFINEMENT.", "MODEL.DENSIFY."),
)
"""Settings of the network that weights do not fix: they come from the command's configs, all others from the file."""
PICTURES = 2  # match pictures of the best pairs, and as many of the worst


def build_parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(
        "test",
        "Evaluate a matcher on posed pairs: pose AUC and precision, end-point error where there is depth, "
        "and the corner error of homographies.",
        "posed_pairs s2ld_lite DATA.POSED_PAIRS.ROOT my/pairs",
        "Predictions are cached in DIR/predictions.h5 and kept as long as weights and configs stay the same.",
        former={"--dump": "--output"},
    )
    parser.add_argument("data_config", type=Path, metavar="DATA_CONFIG", help="file, or name: posed_pairs")
    parser.add_argument("main_config", type=Path, metavar="MAIN_CONFIG", help="file, or name: s2ld_lite")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="config overrides, e.g. MODEL.MATCH.THRESHOLD 0.1"
    )
    parser.add_argument(
        "--weight", help=f"name or file (default: {DEFAULT}, or {AUTHORS_WEIGHTS} for another backbone)"
    )
    add_matcher_options(parser, several=False)
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the report goes (default: dump/DATA_CONFIG)")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--limit", type=int, metavar="N", help="only N pairs, evenly spread")
    parser.add_argument(
        "--sweep", metavar="PX,PX", help="also measure each estimator at these thresholds, e.g. 0.25,0.5,1,2"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes that evaluate (default: the cores, if it pays)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command and return its numbers by name (`s2ld.evaluation.evaluate.summarise`).

    Raises:
        S2LDError: bad arguments, configs, weights or data; another process that writes to the same folder.
    """
    return _run(build_parser().parse_intermixed_args(argv))


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld test", body)


def _run(args: argparse.Namespace) -> dict[str, float]:
    for name in ("threads", "limit", "jobs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(args, name)}")
    config = build_config([args.data_config, args.main_config], args.overrides)
    if args.matcher and args.weight:
        raise S2LDError("--weight is of our network; the weights of --matcher NAME go behind its name: NAME=PATH")
    default = DEFAULT if config.MODEL.BACKBONE.TYPE == "lite" else AUTHORS_WEIGHTS
    weight = None if args.matcher else resolve(args.weight or default)
    folder = args.output or Path("dump") / "_".join([args.data_config.stem, *matcher_name(args.matcher)])
    need("eval")
    from s2ld.evaluation.evaluate import evaluate
    from s2ld.evaluation.predictions.cache import CACHE_NAME, read_cache
    from s2ld.evaluation.predictions.parallel import choose_jobs
    from s2ld.evaluation.protocol import EvaluationSettings, build_protocol
    from s2ld.evaluation.report.files import write_report
    from s2ld.evaluation.report.tables import to_text
    from s2ld.evaluation.sweep import sweep_table, sweep_thresholds
    from s2ld.files import make_folder
    from s2ld.locks import sole_writer

    settings, thresholds = EvaluationSettings.of(config.EVAL), _thresholds(args.sweep)
    _set_threads(args.threads)
    source, cache = _source(config, args.limit), folder / CACHE_NAME
    make_folder(folder)
    with sole_writer(folder):
        keep(folder)
        header, matching = _predict(args, config, weight, source, cache)
        jobs = args.jobs or choose_jobs(header.pairs)
        scores = evaluate(read_cache(cache), settings, header.pairs, jobs)
        sweep = sweep_thresholds(read_cache(cache), settings, thresholds, header.pairs, jobs) if thresholds else None
        protocol = build_protocol(header, matching, read_cache(cache), settings)
        write_report(folder, scores, protocol, sweep)
        _draw_pairs(folder, source)
        print(to_text(scores.numbers, protocol))
        _draw_reliability(folder, f"{protocol.data}; {protocol.weights}")
    if sweep is not None:
        print("", sweep_table(sweep), sep="\n")
    print(f"see {folder}")
    return scores.numbers


def _thresholds(text: str | None) -> list[float]:
    try:
        thresholds = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        thresholds = [0.0]
    if not all(0 < threshold < math.inf for threshold in thresholds):
        raise S2LDError(f"--sweep is {text!r}; give thresholds above 0 px, such as 0.25,0.5,1,2")
    return thresholds


def _predict(
    args: argparse.Namespace, config: CN, weight: Path | None, source: PairSource, cache: Path
) -> tuple[CacheHeader, str]:
    """Make or keep the cache, of --matcher where there is no weight file; return its header and the settings."""
    from s2ld.devices import choose_device
    from s2ld.evaluation.predictions.predict import build_header, match_into_cache, matcher_header, predict_into_cache

    device, workers = choose_device(args.device), int(config.DATA.WORKERS)
    if weight is not None:
        model = _load(weight, config).to(device)
        header, matching = build_header(model, weight, source, config), _run_time_settings(config)
        predicted = predict_into_cache(model, source, cache, header, device, workers)
    else:
        matcher = build_from(args.matcher, args, config, device)
        header, matching = matcher_header(matcher, source, config), f"{matcher.name}: {matcher.settings}"
        predicted = match_into_cache(matcher, source, cache, header, device, workers)
    if not predicted:
        logger.info("predictions of the same weights and configs are kept: {}", cache)
    return header, matching


def _load(weight: Path, config: CN) -> S2LD:
    """Build the network of a weight file, with the run-time settings of `config`; tell where the others differ."""
    from s2ld.models.checkpoint import load_model

    overrides = [text for key, value in _run_time(config) for text in (key, str(value))]
    model, own = load_model(weight, model_overrides=overrides)
    differing = [
        f"{key} {value_of(own, key)} (not {value_of(config, key)})"
        for key in config_keys(config)
        if key.startswith("MODEL.") and value_of(own, key) != value_of(config, key)
    ]
    if differing:
        logger.info("{}: these settings come from the weights: {}", weight, ", ".join(differing))
    return model


def _run_time(config: CN) -> list[tuple[str, object]]:
    return [(key, value_of(config, key)) for key in config_keys(config) if key.startswith(RUN_TIME_KEYS)]


def _run_time_settings(config: CN) -> str:
    return ", ".join(f"{key.removeprefix('MODEL.')} {value}" for key, value in _run_time(config))


def _source(config: CN, limit: int | None) -> PairSource:
    from s2ld.data.sources.by_name import build_source
    from s2ld.data.sources.mixture import SubsetPairs

    source = build_source(config.DATA.TEST_SOURCE, config, "test")
    return source if limit is None else SubsetPairs(source, limit)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import cv2
        import torch

        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)


def _draw_reliability(folder: Path, title: str) -> None:
    """Draw whether the confidences of the cache are probabilities, and print by how much they are not."""
    from s2ld.evaluation.calibration import draw_reliability, match_reliability
    from s2ld.evaluation.predictions.cache import CACHE_NAME, read_cache
    from s2ld.files import whole_file

    measured = match_reliability(read_cache(folder / CACHE_NAME))
    if measured is not None:
        with whole_file(folder / "reliability.png") as part:
            draw_reliability(measured, title).savefig(part, format="png")
        print(f"calibration error {measured.error:.3f} (right: {measured.meaning})")


def _draw_pairs(folder: Path, source: PairSource) -> None:
    """Draw the pairs of least and of largest error, matches coloured by theirs (`Dump.ranking`)."""
    from s2ld.evaluation.predictions.cache import CACHE_NAME, read_cache
    from s2ld.evaluation.report.dump import read_dump
    from s2ld.evaluation.report.pictures import draw_pair

    dump = read_dump(folder)
    errors, order = dump.pair_errors, dump.ranking()
    ranks = sorted({rank % len(order) for rank in range(-PICTURES, PICTURES) if -len(order) <= rank < len(order)})
    chosen = [order[rank] for rank in ranks]
    for rank, index, prediction in zip(ranks, chosen, read_cache(folder / CACHE_NAME, chosen), strict=True):
        draw_pair(prediction, source[index], errors[index], folder / f"pair_rank{rank:04d}.jpg")
