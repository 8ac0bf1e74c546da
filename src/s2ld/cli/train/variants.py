"""The variants that an ablation compares: one table, and how each becomes a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2ld.config import CN, build_config
from s2ld.errors import S2LDError


@dataclass(frozen=True)
class Variant:
    """In what a variant differs from the configuration that it is a variant of."""

    overrides: tuple[str, ...] = ()
    """KEY VALUE pairs over it."""
    without: str = ""
    """Name of the data source that is not trained on; the others keep their shares."""


_NOISE = ("DATA.NOISE.ROTATION", "0.5", "DATA.NOISE.TRANSLATION", "2.0", "DATA.NOISE.DEPTH", "0.02")
# starting weights of another fine stage are taken but for that stage
_TRANSFORMER = ("MODEL.FINE.TYPE", "transformer", "MODEL.FINE.WINDOW", "5", "TRAIN.INIT_STRICT", "False")
_KEYPOINT_LOSSES = ("KEYPOINT_WEIGHT", "REPEATABILITY_WEIGHT", "SCORE_WEIGHT", "CORNER_WEIGHT")

VARIANTS: Mapping[str, Variant] = {
    "baseline": Variant(),
    "noise_regulariser": Variant((*_NOISE, "LOSS.REGULARISER_WEIGHT", "1.0")),
    "noise_no_regulariser": Variant((*_NOISE, "LOSS.REGULARISER_WEIGHT", "0.0")),
    "transformer_subpixel": Variant((*_TRANSFORMER, "MODEL.FINE.WINDOW_MODE", "subpixel")),
    "transformer_rounded": Variant((*_TRANSFORMER, "MODEL.FINE.WINDOW_MODE", "rounded")),
    "no_keypoint_losses": Variant(tuple(word for name in _KEYPOINT_LOSSES for word in (f"LOSS.{name}", "0.0"))),
    "no_corner_loss": Variant(("LOSS.CORNER_WEIGHT", "0.0")),
    "without_homography": Variant(without="homography"),
    "without_synthetic": Variant(without="synthetic"),
    "without_megadepth": Variant(without="megadepth"),
}
"""Name to variant, in the order of the tables."""


def choose(names: Sequence[str]) -> list[str]:
    """Return the named variants in the table's order, all of them for no names.

    Raises:
        S2LDError: a name is not in the table.
    """
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise S2LDError(f"--variants: there is no variant {unknown[0]!r}; use some of {','.join(VARIANTS)}")
    return [name for name in VARIANTS if not names or name in names]


def variant_config(name: str, base: CN) -> CN:
    """Return the config of a variant of `base`.

    Raises:
        S2LDError: `base` has nothing that the variant could leave out.
    """
    variant = VARIANTS[name]
    overrides = list(variant.overrides)
    if variant.without:
        shares = dict(zip(base.DATA.TRAIN_SOURCES, base.DATA.TRAIN_WEIGHTS, strict=False))
        if variant.without not in shares or len(shares) == 1:
            raise S2LDError(
                f"{name}: DATA.TRAIN_SOURCES is {list(shares)}, which nothing remains of or which does not have "
                f"{variant.without}; name the other variants by --variants"
            )
        del shares[variant.without]
        overrides += ["DATA.TRAIN_SOURCES", str(list(shares)), "DATA.TRAIN_WEIGHTS", str(list(shares.values()))]
    return build_config(overrides=overrides, base=base)


def variant_configs(names: Sequence[str], base: CN) -> dict[str, CN]:
    """Return the configs of several variants of `base`.

    Raises:
        S2LDError: as `variant_config`, or two variants are the same.
    """
    configs: dict[str, CN] = {}
    for name in names:
        config = variant_config(name, base)
        twin = next((other for other, known in configs.items() if known == config), None)
        if twin is not None:
            raise S2LDError(f"{name} is the same as {twin} with these configs; leave one out by --variants")
        configs[name] = config
    return configs
