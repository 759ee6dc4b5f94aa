"""The program of the native engine: layout of weights and memory, read by ``_kernels.h``."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backbone import BLOCKS, block_prefix
from .fold import Folded

_ALIGNMENT = 16  # floats: a line of the processor's cache
_WHOLE = 256  # positions of a map that is not cut into strips
_STRIP = 112  # minimum positions of a strip: tiles are full, and the strip stays in the second-level cache

Array = npt.NDArray[np.float32]


class Block(ctypes.Structure):
    """As in ``_kernels.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("line", "step", "runs", "run", "hop", "height", "width", "hidden")),
        *((name, ctypes.c_int32) for name in ("stride", "before", "out_height", "out_width", "out_channels")),
        *((name, ctypes.c_int32) for name in ("residual", "strip", "ring")),
        *((name, ctypes.c_int64) for name in ("expand", "depthwise", "project")),
    )


class Plan(ctypes.Structure):
    """As in ``_kernels.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("size", "blocks", "features", "channels")),
        *((name, ctypes.c_int64) for name in ("head", "padded", "first", "second", "expanded", "deep", "zeros")),
        ("pixels", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Program:
    """A backbone for one image size; threads share it."""

    plan: Plan
    blocks: Any
    weights: Array
    arena: int  # floats that each thread needs
    features: int  # of an image; those of the plan fill panels
    lanes: int  # of the vectors of its kernels


def aligned(floats: int) -> Array:
    """Return zeros, float32, that begin at a multiple of 64 bytes."""
    room = np.zeros(floats + _ALIGNMENT, np.float32)
    start = -(room.ctypes.data // room.itemsize) % _ALIGNMENT
    return room[start : start + floats]


def make_program(folded: Folded, image_size: int, lanes: int) -> Program:
    """Lay out folded weights and memory; the widths of the layers follow from the shapes of the weights."""
    unit = max(8, lanes)  # columns of the narrowest tile
    panel = 2 * unit  # adjacent channels of an expanded map
    weights = _Weights()
    blocks = (Block * len(BLOCKS))()
    size = (image_size + 1) // 2
    step = channels = 0  # of what goes in: floats from pixel to pixel, and those that are read
    largest = dict.fromkeys(("out", "expanded", "deep", "row", "pixels"), 0)
    for number, block in enumerate(blocks):
        prefix = block_prefix(number)
        if number:
            kernel, bias = folded[f"{prefix}expand.kernel"][0, 0], folded[f"{prefix}expand.bias"]
            block.line, block.step, block.runs, block.run, block.hop = size * step, step, 1, channels, 0
        else:  # the first convolution, whose patches are three runs of three pixels
            kernel, bias = folded["Conv1.kernel"], folded["Conv1.bias"]
            kernel = kernel.reshape(27, -1)
            line = 3 * (image_size + 1 + image_size % 2)
            block.line, block.step, block.runs, block.run, block.hop = 2 * line, 6, 3, 9, line
        deep, deep_bias = folded[f"{prefix}depthwise.kernel"].reshape(9, -1), folded[f"{prefix}depthwise.bias"]
        project, out_bias = folded[f"{prefix}project.kernel"][0, 0], folded[f"{prefix}project.bias"]
        out = project.shape[1]
        if not number and deep.shape[1] == out:  # as narrow as this, the first block has a residual, of what it expands
            kernel, bias = np.hstack([kernel, kernel]), np.tile(bias, 2)
            same = np.zeros_like(deep)
            same[4] = 1
            deep, deep_bias = np.hstack([deep, same]), np.pad(deep_bias, (0, out))
            project = np.vstack([project, np.eye(out, dtype=np.float32)])
        block.hidden = _multiple(kernel.shape[1], unit)
        wide = _multiple(block.hidden, panel)
        block.expand = weights.add(kernel, bias, panel_widths(block.hidden, panel))
        block.depthwise = weights.add(deep, deep_bias, [panel] * (wide // panel))
        project = np.pad(project, ((0, block.hidden - len(project)), (0, 0)))
        block.project = weights.add(project, out_bias, column_widths(_multiple(out, unit), unit))

        block.height = block.width = size
        block.stride = BLOCKS[number][1]
        block.before = 1 if block.stride == 1 else size % 2
        block.residual = int(number > 0 and block.stride == 1 and channels == out)
        size = -(-size // block.stride)
        block.out_height = block.out_width = size
        block.out_channels = step = _multiple(out, unit)
        channels = out
        whole = block.height * block.width <= _WHOLE
        block.strip = size if whole else min(size, -(-_STRIP // size))
        block.ring = block.height if block.strip == size else (block.strip - 1) * block.stride + 3
        largest["out"] = max(largest["out"], size * size * step)
        row = (block.width + 2) * panel
        floats = row * block.ring * (1 if block.strip == size else wide // panel)
        largest["expanded"] = max(largest["expanded"], floats)
        largest["deep"] = max(largest["deep"], block.strip * size * wide)
        largest["row"] = max(largest["row"], row)
        largest["pixels"] = max(largest["pixels"], block.ring * block.width, block.strip * size)
    kernel, bias = folded["Conv_1.kernel"][0, 0], folded["Conv_1.bias"]
    features = _multiple(kernel.shape[1], panel)
    head = weights.add(kernel, bias, [panel] * (features // panel))
    largest["expanded"] = max(largest["expanded"], size * size * panel)
    largest["pixels"] = max(largest["pixels"], size * size)

    side = image_size + 1 + image_size % 2
    plan = Plan(image_size, len(BLOCKS), features, channels, head, pixels=largest["pixels"])
    arena = 0
    largest |= {"padded": 3 * side * side, "first": largest["out"], "second": largest["out"], "zeros": largest["row"]}
    for name in ("padded", "first", "second", "expanded", "deep", "zeros"):
        setattr(plan, name, arena)
        arena += _multiple(largest[name], _ALIGNMENT)
    return Program(plan, blocks, weights.packed(), arena, kernel.shape[1], lanes)


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def panel_widths(columns: int, panel: int) -> list[int]:
    """Return the widths of the panels of an expanded map; the last one may be half as wide."""
    return [min(panel, columns - start) for start in range(0, columns, panel)]


def column_widths(columns: int, unit: int) -> list[int]:
    """Return the widths of the panels into which the kernels cut a projection's columns, a multiple of ``unit``."""
    widths = []
    while columns:
        widths.append(unit * (2 if columns % (2 * unit) == 0 else 3 if columns >= 3 * unit else 1))
        columns -= widths[-1]
    return widths


class _Weights:
    """Weights in reading order: for each panel its biases, then its rows."""

    def __init__(self) -> None:
        self._parts: list[Array] = []
        self._length = 0

    def add(self, matrix: Array, bias: Array, widths: list[int]) -> int:
        """Append a matrix (inputs, columns), with zeros behind its last column, and return its offset."""
        offset = self._length
        rows = np.zeros((len(matrix) + 1, sum(widths)), np.float32)
        rows[0, : len(bias)], rows[1:, : matrix.shape[1]] = bias, matrix
        start = 0
        for width in widths:
            self._append(rows[:, start : start + width].ravel())
            start += width
        self._append(np.zeros(-self._length % _ALIGNMENT, np.float32))
        return offset

    def _append(self, part: Array) -> None:
        self._parts.append(part)
        self._length += len(part)

    def packed(self) -> Array:
        weights = aligned(self._length)
        np.concatenate(self._parts, out=weights)
        return weights
