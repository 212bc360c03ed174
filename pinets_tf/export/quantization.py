"""Eight-bit TFLite models of networks whose products have heavy tails."""

import contextlib
import dataclasses
import io
import logging
import re
import warnings

import numpy as np

from pinets_tf.export.equalization import equalize
from pinets_tf.export.runtime import agreement as share_of_agreement
from pinets_tf.export.runtime import (
    all_tensors,
    answers,
    has_fixed_batch,
    interpreter,
    is_classifier,
    litert_quantizer,
    relative_to_mean,
)

# Ranges are cut at these percentiles of what the calibration inputs give; 100 is from the least to the greatest.
PERCENTILES = (100.0, 99.99, 99.9)
# Products and sums stay in float where eight bits lose more than such a part of their deviation.
LOSSES = (np.inf, 0.1, 0.05, 0.03, 0.02, 0.01, 0.0)
_BATCH = 16
# Values kept of each tensor for a batch of calibration inputs, beside its least and greatest one.
_KEPT = 20_000


@dataclasses.dataclass(frozen=True)
class QuantizedModel:
    """A TFLite model in eight bits, and how it was made.

    Args:
        content: the file.
        agreement: the share of held-out inputs on which it answers as the float model does.
        percentile: at which its ranges are cut.
        equalized: whether channels were rescaled.
        float_operators: the products and sums that stay in float, by the names of their outputs.
        dynamic_maps: the linear maps whose input gets a range of its own in each call, by the names of their outputs.
        before_logarithms: how many operators stay in float since a logarithm follows.
        operators: how many operators the model has.
        integer_io: whether inputs and outputs are int8 instead of float32.
        fixed_batch: whether it takes one sample at a time, in tensors of fixed shapes, instead of any batch.
    """

    content: bytes
    agreement: float
    percentile: float
    equalized: bool
    float_operators: tuple[str, ...]
    dynamic_maps: tuple[str, ...]
    before_logarithms: int
    operators: int
    integer_io: bool = False
    fixed_batch: bool = False

    def __str__(self):
        floats = len(self.float_operators)
        eight_bits = self.operators - floats - self.before_logarithms
        parts = [
            f"{eight_bits} of {self.operators} operators in eight bits",
            *([f"{self.before_logarithms} before a logarithm in float"] if self.before_logarithms else []),
            *([f"{floats} products and sums in float"] if floats else []),
            *([f"{len(self.dynamic_maps)} maps with ranges of each call"] if self.dynamic_maps else []),
            f"ranges cut at the percentile {self.percentile:g}",
            *(["channels rescaled"] if self.equalized else []),
            f"{'int8' if self.integer_io else 'float32'} inputs and outputs",
            f"{'a batch of one' if self.fixed_batch else 'batches of any size'}",
        ]
        return f"{', '.join(parts)}: the same answer on {self.agreement:.1%} of the held-out inputs"


def quantize_int8(model, calibration, held_out, *, agreement=0.99, float_operators=True, integer_io=False):
    """Returns a TFLite model with weights and activations of eight bits that answers as the float model does.

    A tensor has one range for all of its 256 steps. The products of a polynomial network have heavy tails: their
    greatest values are tens of deviations away, so that most values share a few steps. Three things are tried for that.
    Ranges are cut at a percentile of what the calibration inputs give. Channels are rescaled to more equal ranges,
    which changes nothing of the float model (`equalize`). And products and sums of which eight bits lose more than a
    part of their deviation,

        (greatest - least) / 255 / sqrt(12) > loss * deviation,

    stay in float, from none on, with smaller and smaller `loss`, until the answers agree. Linear maps, which hold the
    weights and nearly all multiplications, are always in eight bits; those whose inputs lose more than that take the
    range of each input as it comes, and so does the last one, since scores in 256 steps have ties. What comes before a
    logarithm, as in a log-mel spectrogram, stays in float: 256 steps do not span powers of ten. For each loss the
    percentile, and whether channels are rescaled, are those whose outputs for the calibration inputs are closest to the
    float model's.

    When outputs agree is said in `agreement`. The shapes are those of the float model: accelerators of edge devices
    need a batch of one, `convert(..., fixed_batch=True)`, and `integer_io`.

    Args:
        model: a float32 TFLite model of one input, as bytes.
        calibration: inputs (n, ...), some hundred that are like those to come.
        held_out: other inputs, on which the answers are compared, at least some hundred, and none of the calibration
            inputs. The first model that agrees there is taken, so its share on other inputs is a little lower: a model
            is taken before others are tried if its share is above `agreement` by what chance may do in so many inputs,
            the lower end of Wilson's interval of one deviation. Fewer inputs mean more products in float.
        agreement: the least share of held-out inputs on which a model is to agree.
        float_operators: whether operators may stay in float, and maps take ranges as they come; hardware without float
            arithmetic needs `False`.
        integer_io: whether inputs and outputs are int8, with scale and zero point in the file, and not float32 numbers
            that the model rounds itself. Then no tensor may be float, which needs `float_operators=False`.

    Returns:
        A `QuantizedModel`: the first that surely agrees; otherwise, of those that agree, the one whose outputs for the
        held-out inputs are closest to the float model's, or else the one that agrees most. Compare its `agreement`.

    Raises:
        ImportError: if litert-quantizer or ai-edge-litert is missing.
        ValueError: if inputs do not fit the model, are not finite or too few, if the model has several inputs or
            outputs, or is quantised already, or if there is to be no float and it has operators of float alone.

    Example:

    >>> import tempfile
    >>> import keras
    >>> import numpy as np
    >>> from pinets_tf.export import convert, export_saved_model, quantize_int8
    >>> from pinets_tf.layers import CCP
    >>> model = keras.Sequential([keras.Input((8,)), CCP(3, order=2, rank=16)])
    >>> inputs = np.random.default_rng(0).normal(size=(200, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     content = convert(export_saved_model(model, folder, "polynomial"))
    >>> quantized = quantize_int8(content, inputs[::2], inputs[1::2], agreement=0.9)
    >>> quantized.agreement >= 0.9 and len(quantized.content) < len(content)
    True

    Source: ours; ranges from percentiles are Wu et al., "Integer Quantization for Deep Learning Inference", 2020; the
    interval is Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    original = _FloatModel(model)
    calibration, held_out = (
        original.checked(name, inputs) for name, inputs in (("calibration", calibration), ("held_out", held_out))
    )
    if not 0 < agreement <= 1:
        raise ValueError(
            "`agreement` is a share of inputs, greater than 0 and at most 1. "
            f"Received: agreement={agreement!r}. Pass for example 0.99."
        )
    if integer_io and float_operators:
        raise ValueError(
            "Integer inputs and outputs are for a model of integers throughout. "
            "Received: integer_io=True with float_operators=True. Pass float_operators=False too."
        )
    on_calibration, on_held_out = original.answers(calibration), original.answers(held_out)
    models = [original, _FloatModel(equalize(model, calibration))]
    ranges = [one.ranges(calibration) for one in models]
    found_models, tried = [], set()
    for loss in LOSSES if float_operators else LOSSES[:1]:
        candidates = []
        for one, found in zip(models, ranges):
            heavy = {name for name, tensor in found.items() if tensor.loss > loss}
            kept = tuple(name for name in one.products_and_sums if name in heavy)
            dynamic = tuple(name for name, source in one.maps.items() if source in heavy or name == one.last)
            before = one.before_logarithms
            if not float_operators:
                dynamic = before = ()
            if (one, kept, dynamic) in tried:
                continue
            tried.add((one, kept, dynamic))
            for percentile in PERCENTILES:
                content = one.quantized(found, percentile, kept, dynamic, before, integer_io)
                distance = _distance(on_calibration, answers(content, calibration))
                candidates.append((distance, content, percentile, one is not original, kept, dynamic))
        if not candidates:
            continue
        _, content, percentile, equalized, kept, dynamic = min(candidates, key=lambda candidate: candidate[0])
        if integer_io:
            _refuse_float(content)
        received = answers(content, held_out)
        share = share_of_agreement(on_held_out, received)
        quantized = QuantizedModel(
            content,
            share,
            percentile,
            equalized,
            kept,
            dynamic,
            len(before),
            original.operators,
            integer_io,
            has_fixed_batch(interpreter(content)),
        )
        if _surely(share, len(held_out)) >= agreement:
            return quantized
        # Of those that agree the outputs tell the better one with less chance than the answers.
        found_models.append(((min(share, agreement), -_distance(on_held_out, received)), quantized))
    return max(found_models, key=lambda one: one[0])[1]


@dataclasses.dataclass(frozen=True)
class _Range:
    """What the calibration inputs give at a tensor: least and greatest values by percentile, and the loss in 8 bits."""

    by_percentile: dict[float, tuple[float, float]]
    loss: float


class _FloatModel:
    """A float TFLite model that can be quantised."""

    def __init__(self, content):
        self.quantizer, self.types, self.recipe, flatbuffers = litert_quantizer()
        loaded = interpreter(content)
        signatures, inputs, outputs = (
            read() for read in (loaded.get_signature_list, loaded.get_input_details, loaded.get_output_details)
        )
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0]["dtype"] != np.float32 or len(signatures) != 1:
            raise ValueError(
                "A model that is quantised has one signature of one float32 input and one output. "
                f"Received: {len(signatures)} signatures, {len(inputs)} inputs of "
                f"{', '.join(np.dtype(one['dtype']).name for one in inputs)}, {len(outputs)} outputs. "
                "Convert the float model with one signature."
            )
        if any(tensor["dtype"] == np.int8 for tensor in loaded.get_tensor_details()):
            raise ValueError(
                "A float model is quantised once. Received: a model with int8 tensors, which is quantised already. "
                "Pass the float32 model."
            )
        self.content = bytes(content)
        self.signature, names = next(iter(signatures.items()))
        self.input = names["inputs"][0]
        self.shape = tuple(int(size) for size in inputs[0]["shape_signature"][1:])
        graph = flatbuffers.read_model(self.content)
        main = graph.subgraphs[0]
        operation = self.types.TFLOperationName
        self.may_be_float = (operation.MUL, operation.ADD, operation.SUB)
        self.may_be_dynamic = (operation.CONV_2D, operation.DEPTHWISE_CONV_2D, operation.FULLY_CONNECTED)
        self.operators = len(main.operators)
        self.last = main.tensors[main.outputs[0]].name.decode()
        self.before_logarithms = _before_logarithms(graph, main)
        self.products_and_sums, self.maps = [], {}
        for operator in main.operators:
            kind = flatbuffers.TFL_OP_CODE_TO_NAME.get(graph.operatorCodes[operator.opcodeIndex].builtinCode)
            result, source = (main.tensors[part[0]].name.decode() for part in (operator.outputs, operator.inputs))
            if result in self.before_logarithms:
                continue
            if kind in self.may_be_float:
                self.products_and_sums.append(result)
            elif kind in self.may_be_dynamic:
                self.maps[result] = source

    def checked(self, name, inputs):
        inputs = np.asarray(inputs, "float32")
        fits = inputs.ndim == 1 + len(self.shape) and all(
            size in (-1, got) for size, got in zip(self.shape, inputs.shape[1:])
        )
        if not fits or len(inputs) < 2 or not np.isfinite(inputs).all():
            raise ValueError(
                f"`{name}` are at least two finite inputs of the model, of shape {('n', *self.shape)}. "
                f"Received: shape {inputs.shape}{'' if np.isfinite(inputs).all() else ' with values not finite'}. "
                "Pass inputs as the model takes them."
            )
        return inputs

    def answers(self, inputs):
        outputs = answers(self.content, inputs)
        if not np.isfinite(outputs).all():
            raise ValueError(
                "The outputs of the float model are finite. "
                f"Received: {np.sum(~np.isfinite(outputs))} that are not, for {len(inputs)} inputs. "
                "Use a model that does not overflow, or leave these inputs out."
            )
        return outputs

    def ranges(self, inputs):
        """Returns the `_Range` of each tensor that depends on the input."""
        rng = np.random.default_rng(0)
        least: dict[str, float] = {}
        greatest: dict[str, float] = {}
        kept: dict[str, list[np.ndarray]] = {}
        for first in range(0, len(inputs), _BATCH):
            batch = inputs[first : first + _BATCH]
            for name, values in all_tensors(self.content, batch):
                values = values.ravel()
                least[name] = min(least.get(name, 0.0), float(values.min()))
                greatest[name] = max(greatest.get(name, 0.0), float(values.max()))
                some = values if len(values) <= _KEPT else rng.choice(values, _KEPT, replace=False)
                kept.setdefault(name, []).append(some)
        ranges = {}
        for name, parts in kept.items():
            values = np.concatenate(parts).astype("float64")
            cuts = {
                percentile: (
                    min(float(np.percentile(values, 100 - percentile)), 0.0),
                    max(float(np.percentile(values, percentile)), 0.0),
                )
                for percentile in PERCENTILES[1:]
            }
            lost = (greatest[name] - least[name]) / 255 / 12**0.5
            deviation = float(values.std())
            ranges[name] = _Range({100.0: (least[name], greatest[name]), **cuts}, lost / deviation if deviation else 0)
        return ranges

    def quantized(self, ranges, percentile, kept, dynamic, before, integer_io):
        """Returns the quantised model."""
        with _quiet():
            quantizer = self.quantizer.Quantizer(self.content, self.recipe.static_wi8_ai8())
            operation, none = self.types.TFLOperationName, self.quantizer.AlgorithmName.NO_QUANTIZE
            for name in () if integer_io else (operation.INPUT, operation.OUTPUT):
                quantizer.update_quantization_recipe(".*", name, algorithm_key=none)
            for name in dynamic:
                for linear_map in self.may_be_dynamic:
                    quantizer.add_dynamic_config(_exactly(name), linear_map, 8)
            for name in kept:
                for product_or_sum in self.may_be_float:
                    quantizer.update_quantization_recipe(_exactly(name), product_or_sum, algorithm_key=none)
            for name in before:
                quantizer.update_quantization_recipe(_exactly(name), operation.ALL_SUPPORTED, algorithm_key=none)
            # One input, for the form of the result; its ranges are replaced.
            zeros = np.zeros((1, *(max(size, 1) for size in self.shape)), "float32")
            statistics = quantizer.calibrate({self.signature: [{self.input: zeros}]})
            for name, value in statistics.items():
                if name in ranges:
                    low, high = ranges[name].by_percentile[percentile]
                    cut = {"min": np.full_like(value["min"], low), "max": np.full_like(value["max"], high)}
                    statistics[name] = {**value, **cut}
            return bytes(quantizer.quantize(statistics).quantized_model)


def quantize_dynamic(model):
    """Returns a float TFLite model with the weights of linear maps in eight bits, but those before a logarithm.

    Their inputs are rounded with a range of each call, which leaves nothing of the quiet parts of a spectrum.

    Args:
        model: a float32 TFLite model, as bytes.

    Raises:
        ImportError: if litert-quantizer is missing.
    """
    quantizer, types, recipe, flatbuffers = litert_quantizer()
    graph = flatbuffers.read_model(bytes(model))
    with _quiet():
        dynamic = quantizer.Quantizer(bytes(model), recipe.dynamic_wi8_afp32())
        for part in graph.subgraphs:
            for name in _before_logarithms(graph, part):
                dynamic.update_quantization_recipe(
                    _exactly(name),
                    types.TFLOperationName.ALL_SUPPORTED,
                    algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
                )
        return bytes(dynamic.quantize().quantized_model)


def _refuse_float(content):
    names = [tensor["name"] for tensor in interpreter(content).get_tensor_details() if tensor["dtype"] == np.float32]
    if names:
        raise ValueError(
            "A model of integers throughout has operators that exist in eight bits. "
            f"Received: {len(names)} tensors that stay float32, such as {names[0]}. Replace the layer that needs them, "
            "or leave out integer_io."
        )


def _before_logarithms(graph, part):
    """Returns the names of the outputs of all operators on which a logarithm depends, with that of the logarithm."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    made = {tensor: operator for operator in part.operators for tensor in operator.outputs}
    code = BuiltinOperator.LOG
    waiting = [operator for operator in part.operators if graph.operatorCodes[operator.opcodeIndex].builtinCode == code]
    found = {}
    while waiting:
        operator = waiting.pop()
        name = part.tensors[operator.outputs[0]].name.decode()
        if name not in found:
            found[name] = operator
            waiting += [made[tensor] for tensor in operator.inputs if tensor in made]
    return tuple(found)


def _exactly(name):
    """Returns the pattern of the operator whose output has this name."""
    return f"^{re.escape(name)};?$"


def _surely(share, count):
    """Returns the lower end of Wilson's interval, of one deviation, for a share found in `count` inputs."""
    centre, spread = share + 0.5 / count, (share * (1 - share) / count + 0.25 / count**2) ** 0.5
    return (centre - spread) / (1 + 1 / count)


def _distance(expected, received):
    """Returns how far outputs are from those of the float model, with inputs of huge outputs counting as others do."""
    if not is_classifier(expected):
        error, scale = relative_to_mean(expected, received)
        return float(np.mean(error / np.maximum(scale, np.finfo("float32").tiny)))
    wanted, got = _log_softmax(expected), _log_softmax(received)
    # The divergence of Kullback and Leibler, which may be below zero by rounding.
    return float(np.mean(np.sqrt(np.maximum(np.sum(np.exp(wanted) * (wanted - got), -1), 0))))


def _log_softmax(x):
    x = x.astype("float64") - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@contextlib.contextmanager
def _quiet():
    """Keeps tables, progress, and warnings of the memory that all tensors take, from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
