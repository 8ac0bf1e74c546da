"""From a folder of photographs to matches in hloc's files and in a COLMAP database."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from s2ld.errors import S2LDError
from s2ld.files import make_folder, printable, read_text, whole_file
from s2ld.locks import sole_writer
from s2ld.log import keep, logger
from s2ld.sfm.mapping.cameras import group_cameras
from s2ld.sfm.matching.colmap_database import remove_database, write_database
from s2ld.sfm.matching.cost import cost_of, refuse_unless_agreed
from s2ld.sfm.matching.folder import (
    MatcherSettings,
    Matching,
    RawMatches,
    match_missing,
    match_pairs,
    measure_rate,
    missing_images,
    read_images,
)
from s2ld.sfm.matching.hloc import check_names, write_hloc
from s2ld.sfm.matching.identity import IdentitySettings, identify
from s2ld.sfm.matching.pairs import Pair, all_pairs, listed_pairs, neighbour_pairs, sequential_pairs
from s2ld.sfm.matching.retrieval import nearest_images
from s2ld.sfm.matching.sift import match_by_sift
from s2ld.sfm.matching.storage.matches import JOURNAL, MatchJournal
from s2ld.sfm.matching.storage.on_disk import OnDiskSequence
from s2ld.sfm.matching.storage.tables import TABLES, FolderMatches, TableStore
from s2ld.sfm.photos.copies import copy_photo
from s2ld.sfm.photos.usable import PhotoFolder, find_photos

DATABASE = "database.db"
REJECTED = "rejected.txt"
SETTINGS = "settings.json"
ALL_PAIRS = 100
"""Photographs of which each is matched with each, unless something else is asked for."""
PARTNERS = {"retrieval": 20, "sequential": 10}
"""Of a photograph, unless another number is asked for."""
TOLD = 200
"""Pairs from which the cost is measured, on one of them, and told."""


@dataclass(frozen=True)
class FolderSettings:
    """What `s2ld match-folder` does with a folder."""

    pairs: str = "auto"
    """"all", "sequential", "retrieval", the path of a list, or "auto": all of up to `ALL_PAIRS` photographs, else by
    retrieval."""
    neighbours: int | None = None
    """Partners of a photograph: the next ones ("sequential") or those that look most like it ("retrieval"); None: see
    `PARTNERS`."""
    matcher: MatcherSettings = field(default_factory=MatcherSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    shared_cameras: bool = True
    """Photographs of one size and EXIF entry share a camera."""
    jobs: int = 1
    seed: int = 0
    progress: bool = True
    agreed: bool = False
    """Begin even what takes more than a day or more than the disk has."""
    refit: bool = False
    """Make the tables of keypoints anew; otherwise those that are there stay, and grow."""
    merge: bool = False
    """Match nothing: other processes have done it."""

    def of(self, count: int) -> FolderSettings:
        """Return the settings for so many photographs, with the kind of pairs and the number of partners chosen.

        Raises:
            S2LDError: no partners are asked for.
        """
        pairs = self.pairs if self.pairs != "auto" else "all" if count <= ALL_PAIRS else "retrieval"
        neighbours = PARTNERS.get(pairs) if self.neighbours is None else self.neighbours
        if neighbours is not None and neighbours < 1:
            raise S2LDError(f"a photograph needs at least one partner, not {neighbours}")
        return replace(self, pairs=pairs, neighbours=neighbours)

    def matching(self, output: Path) -> Matching:
        """Return how pairs are matched, with `output` for what is kept meanwhile."""
        return Matching(self.matcher, output, self.jobs, self.progress)


@dataclass(frozen=True)
class MatchedFolder:
    """What was done."""

    folder: PhotoFolder
    images: Path
    """Folder of the upright photographs, to which the names belong."""
    raw: RawMatches
    matches: FolderMatches
    rejected: Sequence[tuple[str, str]]
    """Photograph, or line of a list, and reason."""


def match_folder(
    photos: Path, output: Path, settings: FolderSettings, journal_path: Path | None = None
) -> MatchedFolder:
    """Match a folder and write the results; what an earlier run of the same command has matched is not done again.

    Args:
        photos: folder, searched deeper; it is not changed.
        output: folder for `matches.journal`, `features.h5`, `matches.h5`, `pairs.txt`, `database.db`, `rejected.txt`,
            and `images` where EXIF turns a photograph, since COLMAP takes pixels as they are stored.
        settings: see there.
        journal_path: of the journal; None: `output`/matches.journal.

    Raises:
        S2LDError: no two usable photographs, settings that do not fit, matches or keypoints of other settings in
            `output`, no pycolmap (the files of hloc are written then), a file that cannot be written, or another
            process writes to `output`.
    """
    folder = usable_photos(photos, output, settings.progress)
    names = [photo.name for photo in folder.photos]
    check_names(names)
    with sole_writer(output):
        settings, matching = settings.of(len(folder.photos)), settings.matching(output)
        journal = MatchJournal(journal_path or output / JOURNAL, settings.matcher.title(), folder)
        if settings.refit:
            remove_database(output / TABLES)
        store = TableStore(output / TABLES, journal.digests, asdict(settings.identity) | settings.matcher.title())
        if settings.merge:
            pairs, refused = finished_pairs(folder, settings, matching, journal)
        else:
            pairs, refused = agreed_pairs(folder, settings, matching, journal)
        known = [pair for pair in store.pairs() if pair in journal.pairs]
        raw = match_pairs(folder, sorted({*pairs, *known}), matching, journal)
        matches = identify(raw, settings.identity, store)
        rejected = [*folder.rejected, *((line, "") for line in refused)]
        write_rejected(output, rejected)
        write_settings(output, photos, settings)
        sizes = [photo.size for photo in folder.photos]
        scales = OnDiskSequence(len(names), lambda i: float(raw.images[i].scale.mean()))
        write_hloc(output, names, sizes, scales, matches)
        cameras = group_cameras(folder.photos, settings.shared_cameras)
        write_database(output / DATABASE, names, cameras, matches, settings.seed, ids=store.ids)
        return MatchedFolder(folder, upright_images(folder, output), raw, matches, rejected)


def match_folder_by_sift(
    photos: Path, output: Path, settings: FolderSettings, journal_path: Path | None = None, threads: int = -1
) -> tuple[PhotoFolder, Path, int, Sequence[tuple[str, str]]]:
    """Match the same pairs by pycolmap's SIFT into `output`/database.db, to compare with.

    Returns:
        The photographs, the folder of the upright ones, the number of pairs, and what was rejected and why.

    Raises:
        S2LDError: as `match_folder`.
    """
    folder = usable_photos(photos, output, settings.progress)
    path, settings = journal_path or output / JOURNAL, settings.of(len(folder.photos))
    with sole_writer(output):
        title = settings.matcher.title()
        pairs, refused = choose_pairs(
            folder, settings, settings.matching(output), lambda: MatchJournal(path, title, folder)
        )
        rejected = [*folder.rejected, *((line, "") for line in refused)]
        write_rejected(output, rejected)
        images = upright_images(folder, output)
        names = [photo.name for photo in folder.photos]
        cameras = group_cameras(folder.photos, settings.shared_cameras)
        match_by_sift(output / DATABASE, images, names, cameras, pairs, settings.seed, threads)
        return folder, images, len(pairs), rejected


def usable_photos(photos: Path, output: Path, progress: bool) -> PhotoFolder:
    """Return the photographs of a folder, of which there are at least two, and make the output folder.

    Raises:
        S2LDError: less than two, or the output lies among the photographs or cannot be written to.
    """
    if output.resolve().is_relative_to(photos.resolve()):
        raise S2LDError(f"{output}: lies within {photos}, which stays as it is; choose another output folder")
    folder = find_photos(photos, progress)
    if len(folder.photos) < 2:
        others = ""
        if folder.rejected:
            others = f" ({len(folder.rejected)} cannot be used; the first: {': '.join(folder.rejected[0])})"
        raise S2LDError(f"{photos}: one usable photograph makes no pair{others}; put more into the folder")
    make_folder(output)
    keep(output)
    return folder


def finished_pairs(
    folder: PhotoFolder, settings: FolderSettings, matching: Matching, journal: MatchJournal
) -> tuple[list[Pair], list[str]]:
    """Return what `choose_pairs` does where all pairs are matched.

    Raises:
        S2LDError: some are not.
    """
    remedy = "run the shards that have not ended, or match-folder without --shard"
    count = len(folder.photos)
    if settings.pairs == "retrieval" and len(journal.images) < count:
        raise S2LDError(f"{matching.scratch}: {count - len(journal.images)} of {count} photographs are left; {remedy}")
    pairs, refused = choose_pairs(folder, settings, matching, lambda: journal)
    left = sum(pair not in journal.pairs for pair in pairs)
    if left:
        raise S2LDError(f"{matching.scratch}: {left:,} of {len(pairs):,} pairs are left; {remedy}")
    return pairs, refused


def agreed_pairs(
    folder: PhotoFolder, settings: FolderSettings, matching: Matching, journal: MatchJournal
) -> tuple[list[Pair], list[str]]:
    """Return what `choose_pairs` does, and say before any long work what it will take.

    Raises:
        S2LDError: as `choose_pairs`, or it takes more than a day or than the disk has, and was not agreed to.
    """
    most = most_pairs(folder, settings, journal)
    if most is not None:
        tell_cost(folder, most, settings, matching, journal)
    pairs, refused = choose_pairs(folder, settings, matching, lambda: journal)
    if most is None:
        tell_cost(folder, sum(pair not in journal.pairs for pair in pairs), settings, matching, journal)
    return pairs, refused


def most_pairs(folder: PhotoFolder, settings: FolderSettings, journal: MatchJournal) -> int | None:
    """Return the largest number of pairs that may be left where retrieval has to see photographs yet, else None."""
    count = len(folder.photos)
    if settings.pairs != "retrieval" or len(journal.images) == count:
        return None
    return max(0, min(count * (count - 1) // 2, count * (settings.neighbours or 1)) - len(journal.pairs))


def tell_cost(
    folder: PhotoFolder,
    pairs: int,
    settings: FolderSettings,
    matching: Matching,
    journal: MatchJournal,
    processes: int = 1,
) -> None:
    """Measure one pair and say what so many take, unless that is a few minutes.

    Args:
        folder: the photographs.
        pairs: that are left, at most.
        settings: whether it was agreed to.
        matching: how pairs are matched.
        journal: of what is done.
        processes: with so many jobs each.

    Raises:
        S2LDError: it takes more than a day, or than the disk has, and was not agreed to.
    """
    if pairs < TOLD:
        return
    images = len(missing_images(folder, journal))
    cost = cost_of(images, pairs, measure_rate(folder, matching), matching.jobs * processes)
    logger.info("{} photographs, at most {}", len(folder.photos), cost)
    refuse_unless_agreed(cost, matching.scratch, settings.agreed)


def choose_pairs(
    folder: PhotoFolder, settings: FolderSettings, matching: Matching, journal: Callable[[], MatchJournal]
) -> tuple[list[Pair], list[str]]:
    """Return the pairs to match, and a line for each entry of a list that cannot be used.

    Args:
        folder: the photographs.
        settings: of which pairs, of this folder (`FolderSettings.of`), and of retrieval.
        matching: how features are computed.
        journal: gives the journal that holds, or gets, the features for retrieval.

    Raises:
        S2LDError: a list without a usable pair.
    """
    count = len(folder.photos)
    if settings.pairs == "all":
        return all_pairs(count), []
    if settings.pairs == "sequential":
        return sequential_pairs(count, settings.neighbours or 1), []
    if settings.pairs == "retrieval":
        known = journal()
        match_missing(folder, missing_images(folder, known), [], matching, known)
        images = read_images(folder, known)
        descriptors = OnDiskSequence(count, lambda i: images[i].descriptors)
        return neighbour_pairs(nearest_images(descriptors, settings.neighbours or 1, settings.seed).tolist()), []
    return listed_pairs(Path(settings.pairs), [photo.name for photo in folder.photos])


def write_rejected(output: Path, rejected: Sequence[tuple[str, str]]) -> None:
    """Write what cannot be used, one a line with its reason; an empty file where all can be."""
    with whole_file(output / REJECTED) as part:
        part.write_text("".join(printable(": ".join(filter(None, entry))) + "\n" for entry in rejected))


def write_settings(output: Path, photos: Path, settings: FolderSettings) -> None:
    """Write where the photographs are and how they were matched, as `read_settings` reads it."""
    content = {
        "photos": str(photos.resolve()),
        "matcher": asdict(settings.matcher),
        "identity": asdict(settings.identity),
    }
    with whole_file(output / SETTINGS) as part:
        part.write_text(json.dumps(content, indent=1))


def read_settings(output: Path) -> tuple[Path, MatcherSettings, IdentitySettings]:
    """Return the folder of the photographs, and how they were matched.

    Raises:
        S2LDError: `output` holds no matched folder, or its file is damaged.
    """
    path = output / SETTINGS
    remedy = "give the output folder of `s2ld reconstruct`, or run that again"
    try:
        content = json.loads(read_text(path, "settings of a matched folder", remedy))
        return Path(content["photos"]), MatcherSettings(**content["matcher"]), IdentitySettings(**content["identity"])
    except S2LDError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise S2LDError(f"{path}: not the settings of a matched folder; {remedy}") from error


def upright_images(folder: PhotoFolder, output: Path) -> Path:
    """Return a folder in which all photographs are `plain`: their own, or `output`/images with copies and links.

    Raises:
        S2LDError: a copy cannot be written.
    """
    if all(photo.plain for photo in folder.photos):
        return folder.folder
    for photo in folder.photos:
        copy_photo(photo, output / "images" / photo.name, photo.size)
    return output / "images"
