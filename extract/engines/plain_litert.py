"""MobileNetV2 as a LiteRT model, written without TensorFlow, to measure LiteRT's speed before anything is converted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError, first_line
from ..backbone import BLOCKS, block_prefix
from .fold import Folded


def plain_model(folded: Folded, image_size: int) -> bytes:
    """Return a model of the same operations as the converted one, float32 (1, s, s, 3) to (1, d).

    Its features differ from those of the converted model in the last bits, and at odd sizes in the padding.
    """
    try:
        return _Network(folded, image_size).finished()
    except ImportError as error:
        raise EngineError(f"LiteRT's format of models cannot be imported: {first_line(error)}") from error


class _Network:
    def __init__(self, folded: Folded, image_size: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._folded = folded
        self._model = schema.ModelT()
        self._model.version, self._model.buffers, self._model.operatorCodes = 3, [schema.BufferT()], []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]
        self._codes: list[int] = []

        shape = (image_size, image_size, 3)
        maps = self._tensor((1, *shape))
        self._graph.inputs = [maps]
        maps = self._operator("MUL", [maps, self._constant(np.array([1 / 127.5], np.float32))], shape)
        maps = self._operator("ADD", [maps, self._constant(np.array([-1], np.float32))], shape)
        maps, size, channels = self._convolution("Conv1", maps, image_size, 2)
        for number, (_, stride) in enumerate(BLOCKS):
            before, before_channels, prefix = maps, channels, block_prefix(number)
            if number:
                maps, size, _ = self._convolution(f"{prefix}expand", maps, size)
            maps, size, _ = self._convolution(f"{prefix}depthwise", maps, size, stride)
            maps, size, channels = self._convolution(f"{prefix}project", maps, size, relu=False)
            if number and stride == 1 and channels == before_channels:
                maps = self._operator("ADD", [maps, before], (size, size, channels))
        maps, size, channels = self._convolution("Conv_1", maps, size)
        self._graph.outputs = [self._operator("MEAN", [maps, self._constant(np.array([1, 2], np.int32))], (channels,))]

    def finished(self) -> bytes:
        import flatbuffers

        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _convolution(self, name: str, maps: int, size: int, stride: int = 1, relu: bool = True) -> tuple[int, int, int]:
        schema, kernel, bias = self._schema, self._folded[f"{name}.kernel"], self._folded[f"{name}.bias"]
        depthwise = kernel.ndim == 3
        kernel = kernel[None] if depthwise else kernel.transpose(3, 0, 1, 2)
        kind = "DepthwiseConv2D" if depthwise else "Conv2D"
        options = getattr(schema, f"{kind}OptionsT")()
        options.padding, options.strideH, options.strideW = schema.Padding.SAME, stride, stride
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU6 * relu
        if depthwise:
            options.depthMultiplier = 1
        size, channels = -(-size // stride), len(bias)
        inputs = [maps, self._constant(kernel), self._constant(bias)]
        code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return self._operator(code, inputs, (size, size, channels), kind, options), size, channels

    def _operator(
        self, name: str, inputs: list[int], shape: tuple[int, ...], kind: str = "", options: Any = None
    ) -> int:
        schema = self._schema
        code = getattr(schema.BuiltinOperator, name)
        if code not in self._codes:
            self._codes.append(code)
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 1
            self._model.operatorCodes.append(entry)
        kind = kind or {"MUL": "Mul", "ADD": "Add", "MEAN": "Reducer"}[name]
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self._codes.index(code), inputs
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        operator.builtinOptions = options or getattr(schema, f"{kind}OptionsT")()
        output = self._tensor((1, *shape))
        operator.outputs = [output]
        self._graph.operators.append(operator)
        return output

    def _constant(self, values: npt.NDArray[Any]) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        kind = self._schema.TensorType.INT32 if values.dtype == np.int32 else self._schema.TensorType.FLOAT32
        return self._tensor(values.shape, kind, len(self._model.buffers) - 1)

    def _tensor(self, shape: tuple[int, ...], kind: int = 0, buffer: int = 0) -> int:  # 0: float32, no values
        tensor = self._schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), kind, buffer
        tensor.name = f"tensor {len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1
