"""The default configuration: every key there is, with a comment and a unit. Defaults are the paper configuration."""

from __future__ import annotations

from yacs.config import CfgNode as CN


def _model() -> CN:
    c = CN()
    c.INPUT = CN()
    c.INPUT.NORMALISATION = "none"  # none (grey values in [0, 1]) | image (mean and deviation) | local (neighbourhoods)
    c.BACKBONE = CN()
    c.BACKBONE.TYPE = "resnet_fpn"  # resnet_fpn (paper) | lite
    c.BACKBONE.STEM_DIM = 128  # channels at H/2 before the first stage
    c.BACKBONE.DIMS = [128, 196, 256]  # resnet_fpn: channels at H/2, H/4, H/8; lite: the same three levels
    c.BACKBONE.BLOCKS = [2, 2, 2]  # basic blocks a level
    c.BACKBONE.FINE_STRIDE = 2  # px of the resized image per fine pixel: 2 or 4 (lite only)
    c.BACKBONE.FINE_DIM = 128  # channels of the fine map (resnet_fpn: equal to DIMS[0])
    c.BACKBONE.FINE_CONVS = 0  # further residual convolutions on the fine map (lite only)
    c.BACKBONE.CONTEXT = []  # channels of further levels at H/16, H/32, ... that the coarse map takes in (lite only)
    c.BACKBONE.CONTEXT_BLOCKS = 2  # basic blocks of each of these
    c.DETECTOR = CN()
    c.DETECTOR.TYPE = "regression"  # regression (paper) | heatmap (a soft-argmax over the fine pixels of a cell)
    c.DETECTOR.COARSE_DIMS = [256, 128]  # channels of the two convolutions on the coarse map
    c.DETECTOR.FINE_DIMS = [128, 64]  # channels of the two convolutions that bring the fine map to H/8
    c.DETECTOR.HEAD_DIMS = [256, 128]  # hidden channels of the offset and the score head
    c.DETECTOR.OFFSET_RANGE = 1.2  # regression: largest offset, in half cells (4 px)
    c.DETECTOR.HEATMAP_DIM = 8  # heatmap: hidden channels
    c.ADJUSTER = CN()
    c.ADJUSTER.HIDDEN_DIM = 384  # hidden channels of the feature adjuster
    c.POSITION = CN()
    c.POSITION.FORM = "intended"  # intended | released (the frequencies of released checkpoints)
    c.POSITION.LONG_SIDE = 0  # cells that the longer side counts, whatever the image's size; 0: as many as it has
    c.COARSE = CN()
    c.COARSE.LAYERS = ["self", "cross"] * 4
    c.COARSE.HEADS = 8
    c.COARSE.ATTENTION = "linear"  # linear | full, of layers between all cells (AGGREGATE 1)
    c.COARSE.AGGREGATE = 1  # 1 | 2 | 4: side of the squares of cells that attend as one, by full attention
    c.MATCH = CN()
    c.MATCH.TYPE = "dual_softmax"  # dual_softmax | sinkhorn
    c.MATCH.TEMPERATURE = 0.1  # similarity is divided by it (dual_softmax)
    c.MATCH.THRESHOLD = 0.2  # smallest confidence of a match
    c.MATCH.BORDER = 2  # cells next to the border of the valid region that take no match
    c.MATCH.SINKHORN_ITERATIONS = 3
    c.MATCH.SINKHORN_PREFILTER = False  # drop matches of cells whose best partner is the dustbin
    c.FINE = CN()
    c.FINE.TYPE = "transformer"  # transformer (paper) | correlation (a query against a window, then a regression)
    c.FINE.HIDDEN_DIM = 128  # correlation: hidden units of the query and of the regression
    c.FINE.THRESHOLD = 0.0  # correlation: smallest probability that a refined match is right
    c.FINE.WINDOW = 5  # side of the window, fine pixels, odd (correlation: from 3)
    c.FINE.WINDOW_MODE = "subpixel"  # transformer: subpixel (bilinear at the keypoint) | rounded (released checkpoints)
    c.FINE.LAYERS = ["self", "cross"]  # transformer
    c.FINE.HEADS = 8  # transformer
    c.FINE.ATTENTION = "linear"  # transformer: linear | full
    c.CONSENSUS = _consensus()
    c.DENSIFY = _densify()
    c.REFINEMENT = _refinement()
    c.DESCRIPTORS = False  # also return the coarse + fine descriptors of the matched points
    c.SCORE_FILTER = CN()
    c.SCORE_FILTER.ENABLED = False  # drop matches whose keypoint score is low
    c.SCORE_FILTER.THRESHOLD = 0.2  # of the score over the largest score
    c.SCORE_FILTER.STEP = 0.1  # the threshold is lowered by this until ...
    c.SCORE_FILTER.MIN_MATCHES = 100  # ... more matches than this remain
    return c


def _consensus() -> CN:
    c = CN()
    c.ENABLED = False  # judge all candidates: MATCH.THRESHOLD cuts that probability, FINE.THRESHOLD nothing
    c.FLOOR = 0.003  # smallest coarse confidence of a candidate
    c.CANDIDATES = 2000  # of a pair at most, the most confident ones
    c.NEIGHBOURS = 12  # nearest candidates that each one hears, in either image
    c.ROUNDS = 3  # of messages
    c.HIDDEN_DIM = 48  # channels of a candidate
    return c


def _densify() -> CN:
    c = CN()  # look for keypoints 0 without a match where the matches around them say
    c.ENABLED = False  # needs CONSENSUS.ENABLED and FINE.TYPE correlation; never where gradients are recorded
    c.VERIFIED = 0.5  # smallest probability, by the consensus, of the matches that are believed
    c.NEIGHBOURS = 12  # nearest matches that a keypoint's affine map is fitted to
    c.RADIUS = 64.0  # resized px of image 0: farther ones do not count
    c.MIN_SUPPORT = 6.0  # least number of neighbours that agree
    c.MAX_RESIDUAL = 1.5  # resized px of image 1: root mean square by which they may miss the map
    c.PROPOSALS = 1000  # keypoints of a pair that are looked for at most, those of the highest score
    c.MAX_STRAY = 4.0  # resized px: how far from the map's place a keypoint may be found
    c.SEPARATION = 1.0  # resized px of image 1: what is found nearer to another match is dropped
    return c


def _refinement() -> CN:
    c = CN()  # photometric, of the final matches; never where gradients are recorded
    c.ENABLED = False  # move points 1 to where the images agree best
    c.NEIGHBOURS = 12  # matches that a match's affine map is fitted to
    c.PATCH = 11  # side of the patch that is compared, px, odd (from 3)
    c.STEPS = 2  # Gauss-Newton steps on each of the two maps that are fitted one after the other
    c.MAX_SHIFT = 2.0  # resized px: a point that would move so far stays
    c.MIN_CORRELATION = 0.7  # of the patches: a point that ends below stays
    return c


def _train() -> CN:
    c = CN()
    c.STAGE = "matcher"  # matcher | detector (keypoint losses only) | consensus (the rest frozen, cached candidates)
    c.INIT_WEIGHTS = ""  # weight file to start the whole matcher from
    c.INIT_STRICT = True  # every key must fit; False: what fits is taken, the rest starts anew and is named
    c.INIT_DETECTOR = ""  # weight file whose backbone and detector are taken
    c.FREEZE = []  # names of top-level modules that do not learn, e.g. ["backbone", "keypoint_detector"]
    c.FREEZE_BATCHNORM = False  # running statistics are used and kept
    c.SEED = 66
    c.MAX_STEPS = 30000  # optimiser steps
    c.EPOCHS = 0  # passes of the training source after which the run ends, instead of MAX_STEPS; 0: MAX_STEPS counts
    c.CANONICAL_LR = 8e-3  # learning rate at the canonical batch size; scaled linearly with the true one
    c.CANONICAL_BATCH = 64  # pairs
    c.WEIGHT_DECAY = 0.1  # AdamW; not on norms and biases
    c.WARMUP_STEPS = 16  # at the canonical batch size, as many pairs at the true one; at most a fifth of the run
    c.WARMUP_RATIO = 0.1  # of the learning rate, at step 0
    c.SCHEDULE = "cosine"  # cosine | multistep
    c.FINAL_LR_RATIO = 0.01  # cosine: of the learning rate, at the run's end
    c.MILESTONES = [0.2, 0.33333, 0.46667, 0.6, 0.73333, 0.86667]  # multistep: shares of the run where it is halved
    c.GRAD_CLIP = 0.5  # norm
    c.MAX_BAD_STEPS = 20  # steps in a row that are skipped, since loss or gradient is not finite, before the run stops
    c.ACCUMULATE = 1  # batches an optimiser step
    c.EMA_DECAY = 0.999  # of the averaged weights that are validated and shipped; 0 switches it off
    c.PRECISION = "32-true"  # 32-true | bf16-mixed | 16-mixed (Lightning) | auto: bf16-mixed if it pays here
    c.CHANNELS_LAST = True  # memory format of images and convolutions
    c.CHECKPOINT = False  # all but the largest products runs again on the way back: less memory, more time
    c.CHECKPOINT_EVERY = 1000  # optimiser steps
    c.VALIDATE_EVERY = 1000  # optimiser steps
    c.LOG_EVERY = 20  # optimiser steps
    c.FIGURES = 2  # match figures a validation in TensorBoard
    c.CANDIDATES = CN()  # of stage consensus
    c.CANDIDATES.CACHE = ""  # HDF5 file of the candidates, made once; empty: candidates.h5 in the output folder
    c.CANDIDATES.PAIRS = 1500  # in the cache, from the training sources, at IMAGE_SIZE
    c.CANDIDATES.HELD_OUT = 0.1  # share of the pairs that are not trained on but measured at each validation
    c.CANDIDATES.KEEP = 0.5  # least share of a pair's candidates that stay when some are dropped at random
    c.CANDIDATES.MIXED = 0.1  # largest share of the right ones that are made wrong: scattered, or a cluster as a whole
    c.CANDIDATES.TURN = 20.0  # sigma of the angle by which the points of each image are turned, degrees
    c.CANDIDATES.SCALE = 1.4  # by which the points of each image are scaled at most, either way
    c.TEACHER = CN()  # the coarse map must find what another network says of the clean photographs (homography, light)
    c.TEACHER.FILE = ""  # its descriptors, by s2ld teacher-descriptors on their folders; empty: no teacher
    c.TEACHER.WEIGHT = 0.25  # of its loss
    c.TEACHER.POINTS = 128  # most points a view
    c.TEACHER.TEMPERATURE = 0.07  # the cosines are divided by it at the start; it is learnt
    return c


def _targets() -> CN:
    c = CN()
    c.COARSE_RADIUS = 16.0  # resized px: farthest nearest keypoint that is a true match
    c.DEPTH_TOLERANCE = 0.05  # relative depth error at which a warped point counts as occluded
    c.CYCLE_RADIUS = 3.0  # resized px: warp there and back must return within this
    c.FINE_FRACTION = 0.3  # fine-stage matches in training, of the valid cells
    c.FINE_MIN_TRUE = 200  # of which true ones at least (where there are so many)
    return c


def _loss() -> CN:
    c = CN()
    c.COARSE_WEIGHT = 1.0
    c.COARSE_NEGATIVES = True  # dense configuration: negatives of the confidence matrix too
    c.HARD_NEGATIVE_WEIGHT = 0.0  # of the negatives' sum over the number of keypoints with known depth
    c.FOCAL_ALPHA = 0.25
    c.FOCAL_GAMMA = 2.0
    c.FINE_WEIGHT = 1.0
    c.HEATMAP_WEIGHT = 0.25  # correlation: cross entropy of the window
    c.VERIFICATION_WEIGHT = 0.25  # correlation: cross entropy of "this refined match is right"
    c.VERIFICATION_RADIUS = 2.0  # resized px: a refined match within this is right
    c.KEYPOINT_WEIGHT = 0.1
    c.KEYPOINT_RADIUS = 8.0  # resized px: pairs farther apart carry no location loss
    c.CORNER_WEIGHT = 0.0  # heatmap detector: cross entropy with the corners of the image
    c.REPEATABILITY_WEIGHT = 0.1
    c.SCORE_WEIGHT = 0.1
    c.REGULARISER_WEIGHT = 1.0
    c.REGULARISER_HUBER = 0.2  # c of the reversed Huber loss, of the largest residual
    c.REGULARISER_MIN_PARALLAX = 1.0  # degrees: flatter triangles are masked
    c.REGULARISER_MAX_ERROR = 1.0  # relative depth error from which a match is wrong, not noisy, and masked
    c.CONSENSUS_WEIGHT = 1.0  # cross entropy of "this candidate is right"
    c.CONSENSUS_RIGHT = 3.0  # resized px: a candidate within this is right
    c.CONSENSUS_WRONG = 6.0  # resized px: a candidate beyond this is wrong; one between them does not count
    c.CONSENSUS_EPIPOLAR = 1e-3  # squared symmetric epipolar distance, focal length 1: beyond it, where depth is
    # unknown, a candidate is wrong; below it, it does not count
    return c


def _data() -> CN:
    c = CN()
    c.TRAIN_SOURCES = ["synthetic"]  # of synthetic | homography | light | megadepth
    c.TRAIN_WEIGHTS = [1.0]  # share of each source
    c.VAL_SOURCES = ["synthetic"]  # of synthetic | homography | light | megadepth | scannet | posed_pairs
    c.VAL_PAIRS = 64  # pairs of each validation source (0: all of a finite one)
    c.VAL_SETS = []  # data configs, each one more validation source: what test.py measures with it, by the file's name
    c.VAL_WEIGHTS = [1.0]  # in val/score, one for each of VAL_SOURCES, then of VAL_SETS; a single one: all alike
    c.TEST_SOURCE = "synthetic"  # synthetic | homography | light | megadepth | scannet | hpatches | posed_pairs
    c.TEST_PAIRS = 200  # pairs of a generated test source (0: all of a finite one)
    c.IMAGE_SIZE = [640, 480]  # width, height of training images, resized px, multiples of 8
    c.TEST_LONG_SIDE = 640  # longer side of test images, and of posed_pairs in validation too, resized px
    c.BATCH_SIZE = 1  # pairs a process
    c.WORKERS = 2  # loader processes
    c.SEED = 0  # of sources and their order
    c.OVERFIT_PAIRS = 0  # train on so many pairs again and again, and validate on them: does the network learn? 0: off
    c.ON_BAD_PAIR = "skip"  # a pair that training or validation cannot read: skip (name, count, go on) | stop
    c.PHOTOS = ""  # folder of photographs for textures; empty: procedural textures; ???: asked for
    c.PHOTOS_EXCLUDE = []  # beginnings of file names that are left out, e.g. by licence
    c.PHOTOS_HELD_OUT = 0.0  # share of PHOTOS, by a hash of their names, kept from training for validation and testing

    c.SYNTHETIC = _synthetic()
    c.HOMOGRAPHY = _homography()
    c.PHOTOMETRIC = _photometric()
    c.MEGADEPTH = _megadepth()

    c.NOISE = CN()  # errors of training pairs, for experiments; validation and test pairs stay as they are
    c.NOISE.ROTATION = 0.0  # sigma of the relative pose's rotation, degrees
    c.NOISE.TRANSLATION = 0.0  # sigma of the angle of its translation's direction, degrees
    c.NOISE.DEPTH = 0.0  # relative sigma of the depth, half of the variance smooth over the image, half a pixel's own

    c.POSED_PAIRS = CN()
    c.POSED_PAIRS.ROOT = ""  # folder of the images, with a list of pairs; empty: asked for
    c.POSED_PAIRS.LIST = "pairs.json"  # the list, in ROOT; a .txt is one in SuperGlue's form
    c.POSED_PAIRS.MULTIPLE = 8  # sides are rounded down to multiples of it, px, those of scannet and hpatches too

    c.SCANNET = CN()
    c.SCANNET.ROOT = "data/scannet/test"  # folder of scenes: scene0707_00/color, pose and, for DEPTH, depth
    c.SCANNET.INDEX = "data/scannet/index/scannet_test_1500"  # folder with test.npz and intrinsics.npz
    c.SCANNET.SIZE = [640, 480]  # width, height of the images, resized px
    c.SCANNET.DEPTH = False  # read depth maps, for end-point errors

    c.HPATCHES = CN()
    c.HPATCHES.ROOT = "data/hpatches"  # folder of sequences, i_* and v_*
    c.HPATCHES.SUBSET = "all"  # all | illumination | viewpoint
    c.HPATCHES.SKIP_LARGE = True  # without the 8 sequences above 1600x1200 px, as published numbers: 108 of 116
    c.HPATCHES.SHORT_SIDE = 480  # shorter side of the images, resized px (LoFTR); 0: as they are (D2-Net's MMA)

    c.CROP = CN()  # training pairs that are crops around what both views see, instead of whole views
    c.CROP.SHARE = 0.0  # of the pairs of synthetic, homography, light and megadepth
    c.CROP.NATIVE = 0.5  # share of them at the photographs' own resolution; the others lie between it and the whole

    c.LIGHT = CN()
    c.LIGHT.ROOT = ""  # folder of sets of photographs of one view in other light, with the groups; empty: asked for
    c.LIGHT.GROUPS = "groups.json"  # in ROOT: {set: {place: [file, ...]}}
    c.LIGHT.VAL_EVERY = 5  # validation and test have the N-th, 2N-th ... place of each set by name
    c.LIGHT.VAL_PLACES = ["lta_traffic/cam2702"]  # further ones for validation and test, set/place
    # sets that training leaves out: the default one is aligned to 2 or 3 px only, too coarse for the fine stage
    c.LIGHT.TRAIN_EXCLUDE = ["roadscene_vis_thermal"]
    c.LIGHT.VAL_EXCLUDE = []  # sets that validation and test leave out
    return c


def _megadepth() -> CN:
    c = CN()  # ROOT, INDEX and SCENES, those of validation and test too, may be lists of as many, for several data sets
    c.ROOT = "data/megadepth/train"  # folder that the index's paths start from; empty: asked for
    c.INDEX = "data/megadepth/index/scene_info_0.1_0.7"  # folder of index files; empty: `index` in ROOT
    c.SCENES = ""  # text file of index names, one a line; empty: all files of INDEX
    c.VAL_ROOT = ""  # as ROOT, INDEX, SCENES, for validation; empty: the same
    c.VAL_INDEX = ""
    c.VAL_SCENES = ""
    c.TEST_ROOT = "data/megadepth/test"
    c.TEST_INDEX = "data/megadepth/index/scene_info_val_1500"
    c.TEST_SCENES = ""
    c.TEST_DEPTH = False  # read depth maps in testing too, for end-point errors
    c.LAYOUT = "undistorted_sfm"  # undistorted_sfm | megadepth_v1 | glue_factory: see docs/megadepth.md
    # pixel centres of the index's intrinsics: integer | half (COLMAP's way, true of MegaDepth's own index: 0.5 px is
    # subtracted). Published numbers use MegaDepth's index unshifted: integer.
    c.PRINCIPAL_POINT = "integer"
    c.OVERLAP = [0.0, 1.0]  # least and largest overlap of a pair, by the index
    c.MAX_ANGLE = 180.0  # largest triangulation angle, degrees, where the index tells it
    c.MAX_SCALE = 100.0  # largest ratio of the sizes in both images, either way, where the index tells it
    c.PAIRS_PER_SCENE = 100  # drawn of each scene an epoch
    c.FILL = False  # training images fill IMAGE_SIZE, cropped at the middle; False: padded, nothing is lost
    c.CACHE_MB = 512  # decoded photographs that each loader process keeps, MB
    return c


def _synthetic() -> CN:
    c = CN()
    c.PLANES = [1, 4]  # number of textured planes beside the background, least and most
    c.BOXES = [0, 4]  # number of boxes
    c.HEIGHT_FIELDS = 0.3  # share of scenes whose ground is a height field
    c.FOV = [40.0, 75.0]  # horizontal field of view, degrees
    c.BASELINE = [0.05, 0.6]  # camera distance, of the median depth
    c.ROTATION = 15.0  # sigma of the in-plane rotation, degrees
    c.ZOOM = [0.7, 1.4]  # focal length ratio of the second camera
    c.OVERLAP = [0.2, 1.0]  # share of view 0 that is visible in view 1
    c.SUPERSAMPLE = 2  # rays a pixel and axis
    c.TEXTURE_SIDE = 512  # texels, a power of two: textures are squeezed into squares of this side
    c.TEXTURE_CACHE = 1024  # MiB of prepared textures a process; one takes 1.3 MiB at 512, 0.3 at 256
    return c


def _homography() -> CN:
    c = CN()
    c.ROTATION = 20.0  # sigma of the in-plane rotation, degrees
    c.FOV = [40.0, 75.0]  # horizontal field of view, degrees
    c.TILT = 35.0  # largest tilt of the plane against either camera, degrees
    c.ZOOM = [0.5, 1.0]  # scale of the second view against the first, or the reverse
    c.OVERLAP = [0.3, 1.0]  # share of view 0 that is visible in view 1
    # for large changes: tilt, scale and turn are each drawn evenly and kept while the cameras are drawn anew until the
    # smaller view overlaps, and the photograph is filtered for each part of a view
    c.WIDE = False
    c.TURN = 45.0  # WIDE: largest in-plane rotation between the views, degrees (ROTATION turns both together)
    c.CURRICULUM = 0  # WIDE: pairs of the run over which the ranges grow from those of START; 0: full at once
    c.START = CN()
    c.START.TILT = 35.0  # degrees, as TILT
    c.START.ZOOM = 0.5  # least scale, as ZOOM
    c.START.TURN = 26.0  # degrees, as TURN; the deviation is that of ROTATION 15
    return c


def _photometric() -> CN:
    c = CN()
    c.ENABLED = True
    c.KIND = "ladder"  # ladder (all keys below) | dark | mobile (LoFTR's, of fixed strength)
    c.EXPOSURE = 0.6  # largest change, stops
    c.GAMMA = [0.7, 1.5]
    c.COLOUR_CAST = 0.15  # largest relative change of a channel
    c.BLUR = 1.2  # largest sigma, px
    c.NOISE = 0.04  # largest sigma, of the full range
    c.JPEG = [30, 95]  # quality
    c.SHADOW = 0.5  # share of the light that the darkest shadow takes
    c.PROBABILITY = 0.4  # of each of blur, noise, JPEG and shadow
    # strong changes of a view, each with its probability; where they leave no texture, depth counts as unknown
    c.NIGHT = 0.0  # little light, lamps, the noise of a long exposure
    c.LOCAL_LIGHT = 0.0  # one spot of light, or hard shadows
    c.HAZE = 0.0
    c.FILM = 0.0  # grey of any mix of red, green and blue: filters, infrared, strong casts
    c.NARROW = 1.0  # share of these probabilities that pairs of one viewpoint have; it grows to 1 with the change
    return c


def _evaluation() -> CN:
    c = CN()
    c.BENCHMARK = ""  # name of the protocol, printed and stored with the numbers
    c.ESTIMATORS = ["opencv", "poselib"]  # of opencv (LoFTR's exact form) | opencv_corrected | magsac | poselib
    c.OPENCV_THRESHOLD = 0.5  # px of THRESHOLD_UNIT: RANSAC inlier threshold, of opencv_corrected too
    c.OPENCV_CONFIDENCE = 0.99999  # of OpenCV's estimators, for poses and homographies
    c.MAGSAC_THRESHOLD = 0.5  # px of THRESHOLD_UNIT
    c.POSELIB_THRESHOLD = 1.0  # px of THRESHOLD_UNIT
    c.HOMOGRAPHY_THRESHOLD = 3.0  # resized px: RANSAC inlier threshold, for pairs of one plane
    c.THRESHOLD_UNIT = "resized"  # px that the thresholds count: resized | image (LoFTR's lineage)
    c.PIXEL_FRAME = "edge"  # edge: (p + 1/2) scale - 1/2 | lineage: p scale, for published numbers
    c.SEED = 0  # of the first repeat; with 0 OpenCV gets the matches in their own order, else shuffled
    c.REPEATS = 1  # of each estimation, with seeds SEED, SEED + 1, ...
    c.BOOTSTRAP = 1000  # resamples of the pairs, for 95 % intervals; 0: none
    return c


def defaults() -> CN:
    """Return a fresh, mutable copy of the default tree."""
    c = CN()
    c.MODEL = _model()
    c.TRAIN = _train()
    c.TARGETS = _targets()
    c.LOSS = _loss()
    c.DATA = _data()
    c.EVAL = _evaluation()
    return c
