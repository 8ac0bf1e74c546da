"""Options that take many values leave to the others what is none of their values."""

from __future__ import annotations

import argparse

import pytest

from s2ld.cli.arguments import parse_arguments
from s2ld.cli.match.demo import build_parser


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg b.jpg --resize 640 480 --threshold 0.5",
        "--resize 640 480 a.jpg b.jpg --threshold 0.5",
        "--threshold 0.5 --resize 640 480 a.jpg b.jpg",
        "a.jpg --resize 640 480 b.jpg --threshold 0.5",
        "a.jpg --threshold 0.5 b.jpg --resize 640 480",
        "--threshold 0.5 --resize 640 480 -- a.jpg b.jpg",
    ],
)
def test_images_stand_anywhere(line: str) -> None:
    arguments = parse_arguments(build_parser(), line.split())
    assert [str(path) for path in arguments.images] == ["a.jpg", "b.jpg"]
    assert arguments.resize == [640, 480]
    assert arguments.threshold == 0.5


def test_negative_numbers_and_two_such_options() -> None:
    line = "--resize -1 a.jpg --intrinsics 500 500 -3.5 1e2 b.jpg"
    arguments = parse_arguments(build_parser(), line.split())
    assert len(arguments.images) == 2
    assert arguments.resize == [-1]
    assert arguments.intrinsics == [500, 500, -3.5, 100]


def test_choices_are_told_from_the_others() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--methods", nargs="+", choices=("sift", "ours"))
    arguments = parse_arguments(parser, ["--methods", "sift", "ours", "one", "two"])
    assert (arguments.photos, arguments.methods) == (["one", "two"], ["sift", "ours"])


def test_an_option_without_values_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(build_parser(), ["--resize", "a.jpg", "b.jpg"])
    assert end.value.code == 2
    assert "--resize: expected at least one argument" in capsys.readouterr().err
