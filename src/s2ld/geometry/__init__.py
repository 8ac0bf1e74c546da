"""Cameras, poses, epipolar lines, warps, triangulation and homographies: batched, differentiable, free of learning.

Every function works in float32 and float64, on any device, for any leading (batch) dimensions, empty ones included.
A matrix argument (intrinsics, pose, homography) goes with points either as one matrix a set, ``(..., 3, 3)`` with
``(..., P, 2)``, or as one matrix a point, ``(M, 3, 3)`` with ``(M, 2)``: the number of dimensions decides. Products are
element-wise sums, not ``matmul``, so that neither autocast nor TF32 lowers their precision.
"""
