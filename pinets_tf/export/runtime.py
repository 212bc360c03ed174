"""TFLite models run by LiteRT, as a phone runs them."""

import contextlib
import io
import statistics
import time
import warnings

import numpy as np

# What an answer may be off and still agree, of models that are not classifiers.
CLOSE = 0.1
_BATCH = 16


class NotRunError(ValueError):
    """A TFLite model that is loaded, and then fails on inputs."""


def interpreter(content, **options):
    """Returns an interpreter of the content of a .tflite file.

    Args:
        content: bytes.
        **options: those of `ai_edge_litert.interpreter.Interpreter`, such as `num_threads`.

    Raises:
        ImportError: if ai-edge-litert is missing.
        ValueError: if it is no such content.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            f"TFLite models are run with the package ai-edge-litert. Received: {error}. Install it: pip install "
            "'pinets_tf[tflite]'."
        ) from error
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            # Of the memory that it takes to keep all tensors.
            warnings.simplefilter("ignore")
            return Interpreter(model_content=bytes(content), **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"A model is the content of a .tflite file. Received: what does not load ({error}). Convert it again."
        ) from error


def answers(content, inputs):
    """Returns what a TFLite model of one input and one output answers to inputs (n, ...), as floats also of int8.

    Raises:
        NotRunError: if the runtime fails on them.
    """
    loaded = interpreter(content)
    result = loaded.get_output_details()[0]
    parts = []
    for batch in _batches(loaded, inputs, _BATCH):
        _invoke(loaded, batch)
        parts.append(loaded.get_tensor(result["index"]))
    outputs = np.concatenate(parts)
    scale, zero_point = result["quantization"]
    return (outputs.astype("float32") - zero_point) * scale if scale else outputs


def all_tensors(content, batch):
    """Yields name and value of every float tensor that has a value for each input of a batch."""
    loaded = interpreter(content, experimental_preserve_all_tensors=True)
    values: dict[tuple[int, str], list[np.ndarray]] = {}
    for part in _batches(loaded, batch, len(batch)):
        _invoke(loaded, part)
        for tensor in loaded.get_tensor_details():
            if not tensor["name"]:  # The runtime's own memory, as transposed convolutions need it.
                continue
            if tensor["dtype"] == np.float32 and tensor["shape"].size and tensor["shape"][0] == len(part):
                with contextlib.suppress(ValueError):  # Of a tensor that the runtime has joined with another.
                    values.setdefault((tensor["index"], tensor["name"]), []).append(loaded.get_tensor(tensor["index"]))
    for (_, name), parts in values.items():
        yield name, np.concatenate(parts)


def is_classifier(outputs):
    """Returns whether outputs are (batch, classes): of a single score none is the greatest."""
    return outputs.ndim == 2 and outputs.shape[1] > 1


def agreement(expected, received):
    """Returns the share of inputs on which two outputs agree.

    A classifier, whose outputs are (batch, classes) with two classes or more, agrees if the greatest output is the same
    one. Another model agrees if the outputs differ by less than a tenth of what the expected one differs from the mean
    of all expected ones, since shapes and faces have most of their norm in common; a single output from zero.
    """
    if is_classifier(expected):
        return float(np.mean(expected.argmax(-1) == received.argmax(-1)))
    error, scale = relative_to_mean(expected, received)
    return float(np.mean(error <= CLOSE * scale))


def relative_to_mean(expected, received):
    """Returns the norm of each error, and that of what it is compared with, the deviation from the mean output."""
    axes, expected = tuple(range(1, expected.ndim)), expected.astype("float64")
    centre = expected.mean(0) if len(expected) > 1 else 0
    return (np.sqrt(np.sum(values**2, axes)) for values in (received - expected, expected - centre))


def milliseconds(contents, sample, threads, *, rounds=15, calls=20):
    """Returns how long each of several models takes for one sample, the median of interleaved rounds, in milliseconds.

    Args:
        contents: the contents of .tflite files.
        sample: one input, (...).
        threads: how many threads the runtime may use.
        rounds: rounds through all models.
        calls: calls of a model in a round.
    """
    loaded = [interpreter(content, num_threads=threads) for content in contents]
    for one in loaded:
        _invoke(one, sample[None])
    taken: list[list[float]] = [[] for _ in loaded]
    for _ in range(rounds):
        for one, times in zip(loaded, taken):
            began = time.perf_counter()
            for _ in range(calls):
                one.invoke()
            times.append((time.perf_counter() - began) / calls * 1000)
    return [statistics.median(times) for times in taken]


def litert_quantizer():
    """Returns the modules of litert-quantizer that are used: quantizer, qtyping, recipe and tfl_flatbuffer_utils.

    Raises:
        ImportError: if it is missing.
    """
    try:
        from litert_quantizer import qtyping, quantizer, recipe
        from litert_quantizer.utils import tfl_flatbuffer_utils
    except ImportError as error:
        raise ImportError(
            f"Eight-bit models are made with the package litert-quantizer. Received: {error}. Install it: pip install "
            "'pinets_tf[int8]'."
        ) from error
    return quantizer, qtyping, recipe, tfl_flatbuffer_utils


def has_fixed_batch(loaded):
    """Returns whether an interpreter's model takes one sample at a time, in tensors of fixed shapes."""
    return all(part["shape_signature"].size and part["shape_signature"][0] == 1 for part in loaded.get_input_details())


def _batches(loaded, inputs, size):
    size = 1 if has_fixed_batch(loaded) else size
    return (inputs[first : first + size] for first in range(0, len(inputs), size))


def _invoke(loaded, batch):
    entry = loaded.get_input_details()[0]
    scale, zero_point = entry["quantization"]
    if scale:
        limits = np.iinfo(entry["dtype"])
        batch = np.clip(np.round(batch / scale) + zero_point, limits.min, limits.max).astype(entry["dtype"])
    try:
        if tuple(entry["shape"]) != batch.shape:
            loaded.resize_tensor_input(entry["index"], batch.shape)
        loaded.allocate_tensors()  # Does nothing where the shapes are those of the last call.
        loaded.set_tensor(entry["index"], batch)
        loaded.invoke()
    except (RuntimeError, ValueError) as error:
        raise NotRunError(
            "A TFLite model runs on inputs of its shape and type. "
            f"Received: {batch.dtype} of shape {batch.shape}, on which LiteRT failed ({error}). Pass inputs as the "
            "model takes them; if they are, it has no such operator in this precision, so choose another one."
        ) from error
