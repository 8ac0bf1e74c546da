"""`s2ld test`, also `test.py`: predict a data source into a cache, evaluate the cache, write the report."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
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
from s2ld.processes.peers import TESTING, follow_first

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    import pytorch_lightning as pl
    import torch

    from s2ld.data.sample import PairSource
    from s2ld.evaluation.matchers.interface import PairMatcher
    from s2ld.evaluation.matchers.recorded import RecordedMatches
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
        "Predictions are cached in DIR/predictions.h5 and kept as long as weights and configs stay the same. Several "
        "processes share out the pairs; run again after a kill, with any number of them, it goes on.",
        status="0 done; 2 bad input; 3 another process of the run has ended; 130 Ctrl-C",
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
    parser.add_argument("--device", default="auto", help="of one process: auto | cpu | cuda | cuda:N (default: auto)")
    parser.add_argument("--devices", default="1", help="processes on this machine, or auto: one a GPU (default: 1)")
    parser.add_argument("--num-nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="of several processes (default: auto)"
    )
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

    Of several processes all but the first return none.

    Raises:
        S2LDError: bad arguments, configs, weights or data; another process that writes to the same folder.
        Stopped: another process of the run has ended.
    """
    follow_first(TESTING)  # an evaluation takes seconds to import
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
    processes = _processes(args)
    _set_threads(args.threads)
    source, cache = _source(config, args.limit), folder / CACHE_NAME
    make_folder(folder)
    with sole_writer(folder) if processes.first else nullcontext():
        keep(folder)
        header, matching = _predict(args, config, weight, source, cache, processes)
        if not processes.first:
            return {}
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
    args: argparse.Namespace, config: CN, weight: Path | None, source: PairSource, cache: Path, processes: _Processes
) -> tuple[CacheHeader, str]:
    """Make or keep the cache, of --matcher where there is no weight file; return its header and the settings."""
    from s2ld.evaluation.predictions.predict import build_header, match_into_cache, matcher_header, predict_into_cache

    device, workers = _device(args), int(config.DATA.WORKERS)
    if weight is not None:
        model = _load(weight, config)
        header, matching = build_header(model, weight, source, config), _run_time_settings(config)
        if processes.trainer is not None:
            predicted = _share_out(processes.trainer, model, args, config, source, cache, header)
        else:
            predicted = predict_into_cache(model.to(device), source, cache, header, device, workers)
    else:
        matcher = build_from(args.matcher, args, config, device)
        header, matching = matcher_header(matcher, source, config), f"{matcher.name}: {matcher.settings}"
        if processes.trainer is not None:
            predicted = _share_out(processes.trainer, matcher, args, config, source, cache, header)
        else:
            predicted = match_into_cache(matcher, source, cache, header, device, workers)
    if not predicted and processes.first:
        logger.info("predictions of the same weights and configs are kept: {}", cache)
    return header, matching


def _share_out(
    trainer: pl.Trainer,
    matcher: S2LD | PairMatcher | RecordedMatches,
    args: argparse.Namespace,
    config: CN,
    source: PairSource,
    cache: Path,
    header: CacheHeader,
) -> bool:
    """Predict in all processes of a trainer; return whether anything was to be done."""
    from s2ld.evaluation.matchers.recorded import RecordedMatches
    from s2ld.evaluation.predictions.predict import Match, check_records, matcher_match, network_match
    from s2ld.evaluation.predictions.shared_out import Predictor, predict_shared_out
    from s2ld.evaluation.predictions.unfinished import Unfinished, is_complete
    from s2ld.models.network import S2LD

    unfinished, workers = Unfinished(cache, header), int(config.DATA.WORKERS)
    if is_complete(unfinished):
        return False
    if isinstance(matcher, RecordedMatches) and trainer.is_global_zero:
        check_records(matcher, source, workers)

    def build(device: torch.device) -> Match:
        _set_threads(args.threads)  # Lightning has set them when it began
        if isinstance(matcher, S2LD):
            return network_match(matcher.to(device))
        return matcher_match(build_from(args.matcher, args, config, device))

    predict_shared_out(trainer, Predictor(build, source, unfinished, workers), unfinished)
    return True


@dataclass(frozen=True)
class _Processes:
    """Those of the command."""

    trainer: pl.Trainer | None = None
    """Lightning's, of several; None: this one does all."""

    @property
    def first(self) -> bool:
        """Whether this one writes the report."""
        return self.trainer is None or self.trainer.is_global_zero


def _processes(args: argparse.Namespace) -> _Processes:
    if args.num_nodes < 1:
        raise S2LDError(f"--num-nodes {args.num_nodes}: give a number of machines from 1")
    if args.devices == "1" and args.num_nodes == 1:
        return _Processes()
    need("train")
    from s2ld.evaluation.predictions.shared_out import Hardware, build_trainer
    from s2ld.log import set_rank
    from s2ld.processes.ddp import check_slurm, device_count

    hardware = Hardware(args.accelerator, device_count(args.devices, args.accelerator), args.num_nodes)
    if hardware.processes == 1:
        return _Processes()
    if args.device != "auto":
        raise S2LDError(f"--device {args.device} is of one process; choose by --accelerator cpu or gpu")
    check_slurm(hardware.devices, hardware.num_nodes)
    trainer = build_trainer(hardware)
    set_rank(trainer.global_rank)
    return _Processes(trainer)


def _device(args: argparse.Namespace) -> torch.device:
    """Return the device of one process; several choose theirs when they start."""
    from s2ld.devices import choose_device

    if args.accelerator == "auto":
        return choose_device(args.device)
    if args.device != "auto":
        raise S2LDError(f"--device {args.device} and --accelerator {args.accelerator} say the same thing; give one")
    return choose_device("cpu" if args.accelerator == "cpu" else "cuda")


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
