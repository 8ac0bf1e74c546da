"""The network as an ONNX file: two grey images in, a fixed number of rows of matches out.

torch's exporter by `torch.export` (``dynamo=True``, which needs onnxscript) makes it. The older one, by TorchScript, is
deprecated since torch 2.9, and it writes the long side of the example images, which the positions depend on, as a
constant into a file for any size.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.models.consensus.stage import gather_candidates
from s2ld.models.fast.inference import for_inference
from s2ld.models.network import S2LD
from s2ld.types import CoarseMatches, EncodedPair, FineMatches, ImageBatch

INPUTS = ("image0", "image1")
OUTPUTS = ("points0", "points1", "confidence", "score", "valid")
OPSET = 18
"""Version of the operators: the least that torch's exporter writes."""
EXAMPLE = ((104, 136), (120, 152))
"""(height, width) px that sizes are traced with where they are dynamic: four unlike ones, which stay four symbols, of
odd numbers of cells, since what fills up to even ones is traced only where it is something."""
TOLERANCE_PX, TOLERANCE_CONFIDENCE = 0.02, 1e-3
"""Up to which a match is the same in torch and in onnxruntime: sums in another order, behind softmaxes."""
SAME = 0.99
"""Share of the matches that must be the same; where two candidates are as good, rounding decides between them."""


class FixedMatches(nn.Module):
    """A network for one pair, whose outputs have a fixed number of rows: no shape depends on what images show.

    The `matches` most confident ones of the sparse stage are refined; with a consensus all MODEL.CONSENSUS.CANDIDATES
    are, and it judges them. Valid rows come first, by falling confidence; the others are zero. Where no more were found
    than there are rows, the valid ones are those of `S2LD.forward`, but for densification and the photometric
    refinement, which are left out.

    Args:
        network: with its threshold; what is made of it is `for_inference`.
        matches: number of rows.

    Raises:
        S2LDError: a number of rows below 1, or the score filter, whose steps depend on the images.
    """

    def __init__(self, network: S2LD, matches: int) -> None:
        super().__init__()
        if matches < 1:
            raise S2LDError(f"the number of matches must be at least 1, not {matches}")
        if network.config.SCORE_FILTER.ENABLED:
            raise S2LDError("MODEL.SCORE_FILTER.ENABLED cannot be exported; filter by the output `score` instead")
        self.network = for_inference(network)
        self.matches = matches

    def forward(self, image0: Tensor, image1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Match two grey images (1, 1, H, W) in [0, 1], sides multiples of 8.

        Returns:
            points0 and points1 (K, 2) in px of these images, x right and y down, pixel centres at integers; confidence
            (K,) and score (K,) in [0, 1]; how many rows are valid, () int64.
        """
        network = self.network
        encoded = network.encode(ImageBatch(image0), ImageBatch(image1))
        (h0, w0), (h1, w1) = (f.coarse.shape[2:] for f in (encoded.features0, encoded.features1))
        best, partner, good = network.sparse_matching.candidates(encoded.coarse0, encoded.coarse1, (h0, w0), (h1, w1))
        refined = self.matches if network.consensus is None else network.config.CONSENSUS.CANDIDATES
        # zeros behind them, so that there are enough for every size
        found, cell0 = F.pad(torch.where(good, best, 0.0)[0], (0, refined)).topk(refined)
        cell0 = cell0.clamp(max=partner.shape[1] - 1)
        coarse = CoarseMatches(torch.zeros_like(cell0), cell0, partner[0, cell0], found)
        fine = network.refine(encoded, coarse)
        confidence, right = self._judge(encoded, coarse, fine)
        found = F.pad(torch.where(right & (found > 0), confidence, 0.0), (0, max(self.matches - refined, 0)))
        confidence, order = found.topk(self.matches)
        order = order.clamp(max=refined - 1)
        valid = confidence > 0
        points0, points1 = (torch.where(valid[:, None], p[order], 0.0) for p in (fine.points0, fine.points1))
        return points0, points1, confidence, torch.where(valid, fine.score[order], 0.0), valid.sum()

    def _judge(self, encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches) -> tuple[Tensor, Tensor]:
        """As `S2LD.judge`, but for rows that hold no candidate, which the others must not hear."""
        consensus = self.network.consensus
        if consensus is None:
            return self.network.judge(encoded, coarse, fine)
        seen = gather_candidates(encoded, coarse, fine)
        logits = consensus.judge(
            seen.points0[None],
            seen.points1[None],
            seen.evidence[None],
            seen.descriptors0[None],
            seen.descriptors1[None],
            coarse.confidence[None] > 0,
        )
        probability = torch.sigmoid(logits[0])
        return probability, probability > self.network.threshold


def check_size(width: int, height: int) -> None:
    """Raise `S2LDError` for images that the network does not take."""
    if min(width, height) < 16 or width % 8 or height % 8:
        raise S2LDError(f"size {width} x {height}: width and height must be multiples of 8 px, at least 16")


def export_onnx(
    model: FixedMatches, size: tuple[int, int] | None, metadata: Mapping[str, str], opset: int = OPSET
) -> bytes:
    """Return the content of an ONNX file.

    Inputs and outputs are those of `FixedMatches.forward`, by name; float32. It makes the whole confidence matrix:
    float32 for the product of the two images' numbers of cells, several times over.

    Args:
        model: what is exported.
        size: (width, height) px of both images; None: each image has any size, in multiples of 8 px.
        metadata: plain text by key.
        opset: version of the operators.

    Raises:
        S2LDError: a size that the network does not take, an opset that cannot be written, or onnx is not installed.
    """
    need("onnx", "onnx", "onnxscript")
    shapes = None
    sizes = EXAMPLE
    if size is None:
        sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        shapes = (sides, sides)
    else:
        check_size(*size)
        sizes = ((size[1], size[0]),) * 2
    images = tuple(torch.zeros(1, 1, *one) for one in sizes)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(model, images, dynamic_shapes=shapes, strict=False)
        try:
            program = torch.onnx.export(
                exported, (), dynamo=True, optimize=True, verbose=False, opset_version=opset,
                input_names=INPUTS, output_names=OUTPUTS,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:  # 2.6 cannot write dynamic sizes
            what = "any size" if size is None else "this network"
            raise S2LDError(f"torch {torch.__version__} cannot write ONNX for {what}; try a newer torch") from error
    assert program is not None
    written = program.model_proto.opset_import[0].version
    if written != opset:
        raise S2LDError(f"torch {torch.__version__} writes opset {written}, not {opset}; leave out --opset")
    return _finished(program.model_proto, metadata)


def _finished(model: Any, metadata: Mapping[str, str]) -> bytes:
    """Name the dynamic sides and put our metadata in place of the exporter's in an onnx.ModelProto."""
    from onnx.helper import set_model_props

    for number, image in enumerate(model.graph.input):
        for axis, side in ((2, "height"), (3, "width")):
            if image.type.tensor_type.shape.dim[axis].dim_param:
                image.type.tensor_type.shape.dim[axis].dim_param = f"{side}{number}"
    del model.graph.value_info[:]  # shapes of what lies between, in other names
    for node in model.graph.node:
        del node.metadata_props[:]  # lines of code, with the paths of this machine
    set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Agreement:
    """How the matches of an ONNX file compare with torch's on one pair."""

    torch: int
    """Matches in torch."""
    onnx: int
    """Matches in onnxruntime."""
    same: int
    """Matches that are in both within `TOLERANCE_PX` and `TOLERANCE_CONFIDENCE`."""
    points: float
    """Largest difference of a coordinate among these, px."""
    confidence: float
    """Largest difference of their confidences and scores."""

    @property
    def good(self) -> bool:
        """Whether they are the same but for `1 - SAME` of them, and there were any."""
        return self.same > 0 and self.same >= SAME * max(self.torch, self.onnx)


def compare(content: bytes, model: FixedMatches, image0: Tensor, image1: Tensor) -> Agreement:
    """Run an ONNX file by onnxruntime on the CPU, and the network that it was made of, on (1, 1, H, W) images.

    Raises:
        S2LDError: onnxruntime is not installed.
    """
    need("onnx", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rows = session.run(OUTPUTS, dict(zip(INPUTS, (image0.numpy(), image1.numpy()), strict=True)))
    with torch.no_grad():
        ours = _table(model(image0, image1))
    theirs = _table([torch.from_numpy(row) for row in rows[:-1]] + [torch.tensor(int(rows[-1]))])
    if not len(ours) or not len(theirs):
        return Agreement(len(ours), len(theirs), 0, 0.0, 0.0)
    nearest = torch.cdist(theirs[:, :4], ours[:, :4], compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    difference = (theirs - ours[nearest]).abs()
    points, confidence = difference[:, :4].amax(1), difference[:, 4:].amax(1)
    same = (points <= TOLERANCE_PX) & (confidence <= TOLERANCE_CONFIDENCE)
    worst = [float(values[same].max()) if same.any() else 0.0 for values in (points, confidence)]
    return Agreement(len(ours), len(theirs), int(same.sum()), *worst)


def _table(outputs: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """(valid, 6): x0, y0, x1, y1, confidence, score."""
    points0, points1, confidence, score, valid = outputs
    return torch.cat([points0, points1, confidence[:, None], score[:, None]], 1)[: int(valid)]
