"""What FINN's build does with a QONNX model before it needs tools of a vendor, in the order of its steps.

Its own module of the steps cannot be imported without those tools, so they are written out here.
"""

from typing import Any

import numpy as np
from finn.core.onnx_exec import execute_onnx
from finn.transformation.fpgadataflow.convert_to_hw.binary_matrix_vector_activation import (
    InferBinaryMatrixVectorActivation,
)
from finn.transformation.fpgadataflow.convert_to_hw.concat import InferConcatLayer
from finn.transformation.fpgadataflow.convert_to_hw.conv_inp_gen import InferConvInpGen
from finn.transformation.fpgadataflow.convert_to_hw.duplicate_streams import InferDuplicateStreamsLayer
from finn.transformation.fpgadataflow.convert_to_hw.elementwise_binary_operation import InferElementwiseBinaryOperation
from finn.transformation.fpgadataflow.convert_to_hw.global_acc_pool import InferGlobalAccPoolLayer
from finn.transformation.fpgadataflow.convert_to_hw.pool import InferPool
from finn.transformation.fpgadataflow.convert_to_hw.quantized_matrix_vector_activation import (
    InferQuantizedMatrixVectorActivation,
)
from finn.transformation.fpgadataflow.convert_to_hw.split import InferSplitLayer
from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer
from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
from finn.transformation.streamline import Streamline, absorb
from finn.transformation.streamline.reorder import MakeMaxPoolNHWC
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.general import (
    GiveReadableTensorNames,
    GiveUniqueNodeNames,
    RemoveStaticGraphInputs,
    RemoveUnusedTensors,
)
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.util.cleanup import cleanup_model

TIDY = (
    InferShapes,
    FoldConstants,
    GiveUniqueNodeNames,
    GiveReadableTensorNames,
    InferDataTypes,
    RemoveStaticGraphInputs,
)
LOWER = (
    LowerConvsToMatMul, MakeMaxPoolNHWC, absorb.AbsorbTransposeIntoMultiThreshold, MakeMaxPoolNHWC,
    absorb.AbsorbConsecutiveTransposes,
)  # fmt: skip
HARDWARE = (
    InferBinaryMatrixVectorActivation, InferQuantizedMatrixVectorActivation, InferThresholdingLayer, InferPool,
    InferConvInpGen, InferConcatLayer, InferSplitLayer, InferElementwiseBinaryOperation, InferGlobalAccPoolLayer,
    InferDuplicateStreamsLayer,
)  # fmt: skip


def converted(model: Any) -> ModelWrapper:
    """Return a model in FINN's own dialect."""
    return _with(cleanup_model(ModelWrapper(model)).transform(ConvertQONNXtoFINN()), TIDY)


def streamlined(model: ModelWrapper) -> ModelWrapper:
    """Return it with scales moved into thresholds, and convolutions as matrix products."""
    model = model.transform(absorb.AbsorbScalarBiasIntoMultiThreshold()).transform(Streamline())
    if model.get_nodes_by_op_type("Conv"):
        model = _with(model, LOWER)
    model = model.transform(ConvertBipolarMatMulToXnorPopcount()).transform(Streamline())
    return _with(model, (InferDataLayouts, RemoveUnusedTensors))


def on_hardware(model: ModelWrapper) -> ModelWrapper:
    """Return it with the nodes that stand for hardware, which compute in Python."""
    model = _with(model, HARDWARE).transform(absorb.AbsorbConsecutiveTransposes())
    return _with(model, (GiveUniqueNodeNames, InferDataLayouts, InferDataTypes, InferShapes))


def logits_of(model: ModelWrapper, pixels: np.ndarray) -> np.ndarray:
    """Return what a model of any stage computes, image by image."""
    name, result = model.graph.input[0].name, model.graph.output[0].name
    return np.concatenate([execute_onnx(model, {name: image[None]})[result] for image in pixels])


def _with(model: ModelWrapper, transformations: Any) -> ModelWrapper:
    for transformation in transformations:
        model = model.transform(transformation())
    return model
