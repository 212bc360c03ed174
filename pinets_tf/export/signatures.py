"""What a served model may be asked: named inputs and outputs, files that are decoded, names of classes."""

import dataclasses
import functools
import keyword
import re
import warnings
from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pinets_tf._keras import flatten_layers, history
from pinets_tf.data import imagenet, images, speech
from pinets_tf.layers import LogMelSpectrogram

# What a model takes, as a sentence goes on after "a model of".
TASKS = {
    "images": "images (batch, height, width, channels) of fixed size with 1 or 3 channels",
    "waveforms": "waveforms (batch, samples), with a layer LogMelSpectrogram",
    "latents": "latents (batch, size) that makes images with 1 or 3 channels",
    "vertices": "vertices (batch, vertices, 3)",
    "tensors": "anything",
}
# Square colour images from this size on are cut out of photographs, as `examples/imagenet.py` reads them.
PHOTOGRAPH = 64
# What an axis has in examples whose length a model leaves open.
OPEN_AXIS = 32
EMPTY = "A request has at least one sample. Received: a batch of none. Leave out the request."
NOT_FINITE = "A request has finite numbers. Received: a tensor with some that are not. Leave those samples out."


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function that a server calls by name.

    Args:
        function: a `tf.function` from tensors to a dictionary of tensors, of any batch.
        inputs: the tensors that it takes, named.
        outputs: the names of what it returns, those of the model's own outputs first, in their order.
        example: a function from a batch size to a request, a dictionary of arrays.
    """

    function: Callable
    inputs: tuple[tf.TensorSpec, ...]
    outputs: tuple[str, ...]
    example: Callable[[int], dict[str, np.ndarray]]


def task_of(model, task="auto"):
    """Returns what `model` is served for, one of the names of `TASKS`.

    Args:
        model: a functional or sequential Keras model.
        task: `"auto"` for the first name of `TASKS` that fits, or a name, which is checked.

    Raises:
        ValueError: if there is no such task, or it does not fit.

    Example:

    >>> from pinets_tf.export import task_of
    >>> from pinets_tf.models import linear_generator, resnet
    >>> task_of(resnet((8, 8, 3), 4, stage_blocks=(1,), width=2)), task_of(linear_generator(latent=6, width=0.02))
    ('images', 'latents')
    """
    if task != "auto" and task not in TASKS:
        raise ValueError(
            f"A task is auto or one of {', '.join(TASKS)}. Received: {task!r}. Leave it out to have it found."
        )
    fitting = [name for name in TASKS if _fits(model, name)]
    if task != "auto" and task not in fitting:
        raise ValueError(
            f"The task {task!r} is that of a model of {TASKS[task]}. Received: {model.name} from "
            f"{_shapes(model.inputs)} to {_shapes(model.outputs)}. Pass one of {', '.join(fitting)}, or auto."
        )
    return fitting[0] if task == "auto" else task


def class_count(model, task="auto"):
    """Returns how many class scores a model of images or waveforms returns, or 0 if it is no classifier."""
    shape = model.outputs[0].shape
    # Of a single score, as a discriminator has it, there are no probabilities of classes.
    scores = len(shape) == 2 and shape[1] is not None and shape[1] > 1
    return shape[1] if scores and task_of(model, task) in ("images", "waveforms") else 0


def signatures(model, task="auto", labels=None):
    """Returns what a server offers of a model, by name.

    - `serving_default` takes `images`, `waveforms`, `latents` or `vertices`, or tensors under the names of the Keras
      inputs, and returns `logits` and `probabilities` of a classifier (`probabilities` alone where the model ends in a
      softmax) and with labels also `classes`, the name of the most probable one; `images` of a generator; `vertices`;
      or else `outputs`, of several outputs their Keras names. Tensors of other shapes or with values that are not
      finite, and empty batches, are refused by the graph.
    - `encoded_images`, of a classifier of images, takes `image_bytes`, JPEG or PNG files, and returns the same. They
      are read as for `--predict` of the trainers: of square colour images of 64 pixels or more the central square, as
      `pinets_tf.data.imagenet.read_image` with `resize` at 256 / 224 of the size; all others are resized as a whole,
      as `pinets_tf.data.images.read_image`. But pixels are taken as they are stored: no graph knows EXIF data, by which
      photographs are turned, so `export/serving/client.py` turns them before it sends them. Both give values in
      [0, 255], so other models of images, such as discriminators, have no such signature.
    - `encoded_audio`, of a model of waveforms, takes `wav_bytes`, 16-bit PCM WAV files of the sample rate of the model,
      padded at the end or cut to the middle as `pinets_tf.data.speech.read_clip`.
    - `lite` takes what `serving_default` takes and returns the model's own outputs alone. It has no checks of shapes,
      for which TFLite has no operator.

    Floating-point tensors are float32, whatever the model computes in. A file that cannot be decoded makes its request
    fail with INVALID_ARGUMENT.

    Names are the same each time a model is built. The Keras name of an input is what `keras.Input(name=...)` was given,
    or the key of a dictionary of inputs; that of an output its key in a dictionary, or what its layer was given as
    `name`. Where Keras made the name, as in `keras_tensor_12`, `input_layer_3` or `dense_7`, the input is called
    `inputs`, or `input_1`, `input_2`, ... by its position among several, and the output `output_1`, `output_2`, ... by
    its own. Names have letters of ASCII, digits and underscores, each once, and those of inputs begin with a letter and
    are no keywords of Python; another name is changed, and a warning says so.

    Args:
        model: a functional or sequential Keras model of any batch size.
        task: `"auto"` or a name of `TASKS`.
        labels: the names of the classes, in the order of the scores, or `None`.

    Returns:
        A dictionary of `Signature`s.

    Raises:
        ValueError: if the task does not fit, if the model takes strings or one batch size alone, or if there are not as
            many labels as scores.

    Example:

    >>> from pinets_tf.export import signatures
    >>> from pinets_tf.models import resnet
    >>> offered = signatures(resnet((8, 8, 3), 2, stage_blocks=(1,), width=2), labels=["cat", "dog"])
    >>> sorted(offered), offered["serving_default"].outputs
    (['encoded_images', 'lite', 'serving_default'], ('logits', 'probabilities', 'classes'))
    """
    task = task_of(model, task)
    for tensor in model.inputs:
        if tensor.dtype == "string" or tensor.shape[0] is not None:
            raise ValueError(
                "A served model takes numbers, in batches of any size. Received: an input of shape "
                f"{tuple(tensor.shape)} and type {tensor.dtype}. Build the model with keras.Input(shape)."
            )
    classes = class_count(model, task)
    if labels is not None and len(labels) != classes:
        raise ValueError(
            f"Labels name the class scores of a classifier, one for each. Received: {len(labels)} labels for "
            f"{classes or 'no'} scores. {'Pass as many.' if classes else 'Leave out the labels.'}"
        )
    names = _names("input", _given_to_inputs(model)) if task == "tensors" else [task]
    specs = tuple(
        tf.TensorSpec(tensor.shape, "float32" if _is_floating(tensor.dtype) else tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, names)
    )
    network = flat_network(model)
    example = functools.partial(_example, specs, task)
    if classes:
        scores = answered(model.name, lambda **request: network(*request.values())[0], example(2))
        own = ["probabilities" if _are_probabilities(scores) else "logits"]
    else:
        own = _output_names(model, task)

    @_served(*specs)
    def lite(*tensors):
        return dict(zip(own, map(_float32, network(*tensors))))

    @_served(*specs)
    def answer(*tensors):
        # An empty batch makes some fused operations of TensorFlow 2.21 fail with words that are of no use.
        some = tf.reduce_all([tf.shape(tensor)[0] > 0 for tensor in tensors])
        floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
        finite = tf.reduce_all([True, *(tf.reduce_all(tf.math.is_finite(tensor)) for tensor in floats)])
        with tf.control_dependencies([tf.debugging.Assert(some, [EMPTY]), tf.debugging.Assert(finite, [NOT_FINITE])]):
            checked = [tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(tensors, specs)]
        outputs = dict(lite(*checked))
        if "logits" in outputs and classes:
            outputs["probabilities"] = tf.nn.softmax(outputs["logits"])
        if labels is not None:
            outputs["classes"] = tf.gather(tf.constant(list(map(str, labels))), tf.argmax(outputs["probabilities"], -1))
        return outputs

    added = (["probabilities"] if classes and own == ["logits"] else []) + (["classes"] if labels is not None else [])
    outputs = (*own, *added)
    offered = {"serving_default": Signature(answer, specs, outputs, example)}
    shape = specs[0].shape[1:]
    if task == "images" and classes:
        decode = _picture_decoder(tuple(shape))
        request = functools.partial(_encoded_pictures, tuple(shape))
        offered["encoded_images"] = _of_files("image_bytes", decode, answer, specs[0], outputs, request)
    if task == "waveforms" and shape[0] is not None:
        rate = _front_end(model).sample_rate_hz
        decode = functools.partial(speech.decode_clip, samples=shape[0], sample_rate_hz=rate)
        request = functools.partial(_encoded_clips, shape[0], rate)
        offered["encoded_audio"] = _of_files("wav_bytes", decode, answer, specs[0], outputs, request)
    return {**offered, "lite": Signature(lite, specs, tuple(own), example)}


def flat_network(model):
    """Returns a function from the inputs of a model to a list of its outputs, whatever their structures."""
    network = keras.Model(model.inputs, model.outputs, name="network")
    return lambda *tensors: keras.tree.flatten(network(list(tensors), training=False))


def answered(name, function, request):
    """Returns what a function returns for the arrays of a request.

    Raises:
        ValueError: if it fails.
    """
    try:
        return function(**request)
    except Exception as error:  # Those of TensorFlow, and what it raises where a message is no text.
        shapes = ", ".join(f"{key} {np.shape(value)}" for key, value in request.items())
        # In one line, without places in a graph and what Keras writes in bold type.
        reason = re.sub(r"\x1b\[\d+m|(\[\[)?\{\{.*?\}\}(\]\])?|\[Op:.*?\]", "", str(error))
        reason = " ".join(reason.split())[:400] or type(error).__name__
        raise ValueError(
            "A served model answers batches of any size. "
            f"Received: {name}, which fails for {shapes} ({reason}). "
            "Give its Input fixed sizes, or replace the layer that the message names."
        ) from error


def _fits(model, task):
    if task == "tensors":
        return True
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return False
    (source,), (result,) = ([tuple(tensor.shape) for tensor in part] for part in (model.inputs, model.outputs))
    pictures = [len(shape) == 4 and shape[-1] in (1, 3) for shape in (source, result)]
    return {
        "images": pictures[0] and None not in source[1:],
        "waveforms": len(source) == 2 and _front_end(model) is not None,
        "latents": len(source) == 2 and pictures[1],
        "vertices": len(source) == 3 and source[-1] == 3,
    }[task]


def _front_end(model):
    layers = flatten_layers(model)
    return next((layer for layer in layers if isinstance(layer, LogMelSpectrogram)), None)


def _shapes(tensors):
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)


def positional_names(model):
    """Returns names that do not depend on what else was built in a process, by the names that Keras has made.

    Args:
        model: a model with layers and operations whose names Keras has made, such as `dense_7`. Those that were given
            are not among the names that are returned.
    """
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for part in flatten_layers(model):
        for layer in (part, *getattr(part, "operations", ())):
            stem = _stem(layer)
            # Also forward_lstm_3, as Bidirectional calls it.
            if layer.name not in names and stem.replace("_", "").endswith(_kind(layer)):
                names[layer.name] = f"{stem}_{counts[stem]}" if counts[stem] else stem
                counts[stem] += 1
    return names


def _stem(layer):
    return re.sub(r"_\d+$", "", layer.name)


def _kind(layer):
    return type(layer).__name__.replace("_", "").lower()


def _given_to_inputs(model):
    """Returns for each input the name that it was given, or `None`."""
    structure = getattr(model, "input", ())  # A sequential model has none before it is called.
    keys = sorted(structure) if _is_flat(structure, model.inputs) else [None] * len(model.inputs)
    automatic = re.compile(r"(keras_tensor|input_layer)(_\d+)?(CLONE)*")
    return [key if automatic.fullmatch(tensor.name) else tensor.name for key, tensor in zip(keys, model.inputs)]


def _given_to_outputs(model):
    """Returns for each output the name that it was given, or `None`."""
    if _is_flat(model.output, model.outputs):
        return sorted(model.output)
    layers = [history(tensor).operation for tensor in model.outputs]
    return [None if _stem(layer).replace("_", "") == _kind(layer) else layer.name for layer in layers]


def _is_flat(structure, tensors):
    return isinstance(structure, dict) and len(structure) == len(tensors)


def _names(kind, given):
    """Returns names as signatures may have them, each once: those that were given, or else names by position."""
    if given == [None]:
        return [f"{kind}s"]
    names: list[str] = []
    for place, name in enumerate(given, 1):
        name = re.sub(r"\W", "_", f"{kind}_{place}" if name is None else str(name), flags=re.ASCII)
        # TensorFlow makes parameters of inputs.
        if kind == "input" and (keyword.iskeyword(name) or not name[0].isalpha()):
            name = f"input_{name.lstrip('_') or place}"
        wanted, number = name, place - 1
        while name in names:
            name, number = f"{wanted}_{number}", number + 1
        names.append(name)
    changed = [f"{old!r}, called {new!r}" for old, new in zip(given, names) if old is not None and old != new]
    if changed:
        warnings.warn(
            f"Names of {kind}s are letters of ASCII, digits and underscores, each once"
            f"{', from a letter on and no keyword of Python' if kind == 'input' else ''}. "
            f"Received: {'; '.join(changed)}. Name {'keras.Input' if kind == 'input' else 'layers'} so to have others.",
            stacklevel=4,
        )
    return names


def _output_names(model, task):
    if len(model.outputs) > 1:
        return _names("output", _given_to_outputs(model))
    shape = model.outputs[0].shape
    if task == "latents":
        return ["images"]
    return ["vertices" if task == "vertices" and len(shape) == 3 and shape[-1] == 3 else "outputs"]


def _is_floating(dtype):
    return keras.backend.is_float_dtype(dtype)


def _float32(tensor):
    return tf.cast(tensor, tf.float32) if _is_floating(tensor.dtype.name) else tensor


def _served(*specs):
    return functools.partial(tf.function, input_signature=specs, autograph=False)


def _are_probabilities(scores):
    scores = keras.ops.convert_to_numpy(scores)
    return bool((scores >= 0).all() and np.allclose(scores.sum(-1), 1, atol=1e-3))


def _example(specs, task, batch):
    rng = np.random.default_rng(batch)
    low, high = {"images": (0, 255), "waveforms": (-1, 1)}.get(task, (0, 0))
    request = {}
    for spec in specs:
        shape = [batch] + [OPEN_AXIS if axis is None else axis for axis in spec.shape[1:]]
        if not spec.dtype.is_floating:
            values = np.zeros(shape)  # A number that is an index is valid.
        else:
            values = rng.uniform(low, high, shape) if high else rng.normal(size=shape)
        request[spec.name] = values.astype(spec.dtype.as_numpy_dtype)
    return request


def _of_files(name, decode, answer, wanted, outputs, example):
    """Returns the signature that decodes files and passes them on to `answer`."""
    spec = tf.TensorSpec((None,), tf.string, name=name)

    @_served(spec)
    def decoded(contents):
        each = tf.TensorSpec(wanted.shape[1:], tf.float32)
        return answer(tf.cast(tf.map_fn(decode, contents, fn_output_signature=each), wanted.dtype))

    return Signature(decoded, (spec,), outputs, lambda batch: {name: np.array([example()] * batch, object)})


def _picture_decoder(shape):
    height, width, channels = shape
    if height == width >= PHOTOGRAPH and channels == 3:
        return functools.partial(imagenet.decode_image, size=height, resize=round(height * 256 / 224))
    return functools.partial(images.decode_image, shape=shape)


def _encoded_pictures(shape):
    return tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, shape, "uint8")).numpy()


def _encoded_clips(samples, sample_rate_hz):
    sound = np.random.default_rng(0).uniform(-1, 1, (samples, 1)).astype("float32")
    return tf.audio.encode_wav(sound, sample_rate_hz).numpy()
