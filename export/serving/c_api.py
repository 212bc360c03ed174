"""Runs a SavedModel as TensorFlow Serving does inside: by the TensorFlow library, without Python of TensorFlow.

    python export/serving/c_api.py served/order2/1
    python export/serving/c_api.py served/order2/1 --signature encoded_images --input image_bytes=cat.jpg
    python export/serving/c_api.py served/order2/1 --input images=images.npy --output answers.npz --no_xla

The first lists the signatures, the others run one. The library is that of the installed tensorflow package, of which no
Python is imported, nor is Keras. A stock server does not compile with XLA, and neither does this with --no_xla: a
SavedModel that must be compiled is loaded, and then fails. What is not tried here are gRPC, REST, batching and the
configuration of the server.
"""

import argparse
import ctypes
import dataclasses
import importlib.util
import io
import os
import re
import sys
from pathlib import Path

import numpy as np

LIBRARY = "libtensorflow_cc.so.2"
DISABLE_XLA = "_ZN10tensorflow21DisableXlaCompilationEv"  # tensorflow::DisableXlaCompilation()
STRING = 7
# DataType of TensorFlow's types.proto.
TYPES = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    STRING: np.object_,
    9: np.int64,
    10: np.bool_,
    17: np.uint16,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
}
STRING_BYTES = 24  # sizeof(TF_TString)
RESULTS = {
    "TF_NewStatus": ctypes.c_void_p,
    "TF_NewSessionOptions": ctypes.c_void_p,
    "TF_NewGraph": ctypes.c_void_p,
    "TF_NewBuffer": ctypes.c_void_p,
    "TF_LoadSessionFromSavedModel": ctypes.c_void_p,
    "TF_GraphOperationByName": ctypes.c_void_p,
    "TF_AllocateTensor": ctypes.c_void_p,
    "TF_TensorData": ctypes.c_void_p,
    "TF_Message": ctypes.c_void_p,
    "TF_StringGetDataPointer": ctypes.c_void_p,
    "TF_StringGetSize": ctypes.c_size_t,
    "TF_Dim": ctypes.c_int64,
}


class Output(ctypes.Structure):
    """TF_Output."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a signature says of one input or output."""

    name: str
    type: int
    shape: tuple[int, ...] | None

    def __str__(self):
        kind = "string" if self.type == STRING else np.dtype(TYPES[self.type]).name if self.type in TYPES else self.type
        return f"{kind} {'of any shape' if self.shape is None else list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """The tensors of a signature by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class SavedModel:
    """A SavedModel in a session of the TensorFlow library.

    It stays loaded until the process ends, which should be one for this alone: the library shall be loaded before or
    without Python of TensorFlow, and `xla=False` holds for the whole process.

    Args:
        folder: a version of a SavedModel.
        xla: whether functions may be compiled with XLA.

    Raises:
        ValueError: if there is no SavedModel or it cannot be loaded.
        ImportError: if there is no TensorFlow library.
    """

    def __init__(self, folder, xla=True):
        if not (Path(folder) / "saved_model.pb").is_file():
            raise ValueError(
                f"A SavedModel is a folder with saved_model.pb. Received: {folder}. "
                "Pass the folder that export/saved_model.py printed."
            )
        self._library = load_library()
        if not xla:
            getattr(self._library, DISABLE_XLA)()
        self._status = self._call("TF_NewStatus")
        self._graph = self._call("TF_NewGraph")
        buffer = self._call("TF_NewBuffer")
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = self._call(
            "TF_LoadSessionFromSavedModel",
            self._call("TF_NewSessionOptions"),
            None,
            os.fsencode(folder),
            tags,
            1,
            self._graph,
            buffer,
            self._status,
        )
        self._check(f"A SavedModel with the tag serve is loaded. Received: {folder}", "Export it again.")
        meta_graph = Buffer.from_address(buffer.value)
        self.signatures = read_signatures(ctypes.string_at(meta_graph.data, meta_graph.length))

    def run(self, signature, inputs):
        """Runs a signature.

        Args:
            signature: its name.
            inputs: for each input an array, of bytes objects where it is of strings.

        Returns:
            A dictionary from the name of an output to an array.

        Raises:
            ValueError: if the signature or its inputs are others, or if TensorFlow fails.
        """
        if signature not in self.signatures:
            raise ValueError(
                f"A signature is one of the SavedModel. Received: {signature}. Pass one of: "
                f"{', '.join(self.signatures)}."
            )
        entries, results = self.signatures[signature].inputs, self.signatures[signature].outputs
        if inputs.keys() != entries.keys():
            raise ValueError(
                f"Each input of {signature} is given once. Received: {', '.join(inputs) or 'none'}. "
                f"Pass: {', '.join(entries)}."
            )
        for name, tensor in {**entries, **results}.items():
            if tensor.type not in TYPES:
                raise ValueError(
                    "Tensors are of numbers, truth values or strings. "
                    f"Received: {name} of type {tensor.type}. Cast it in the SavedModel."
                )
        given = [
            self._tensor(as_type(name, inputs[name], TYPES[tensor.type]), tensor.type)
            for name, tensor in entries.items()
        ]
        answers = (ctypes.c_void_p * len(results))()
        self._library.TF_SessionRun(
            self._session,
            None,
            self._places(entries),
            (ctypes.c_void_p * len(given))(*(tensor.value for tensor in given)),
            ctypes.c_int(len(given)),
            self._places(results),
            answers,
            ctypes.c_int(len(results)),
            None,
            ctypes.c_int(0),
            None,
            self._status,
        )
        try:
            self._check(f"A signature runs on inputs of its shapes. Received: {signature}", "Change what it names.")
            return {name: self._array(TYPES[results[name].type], answer) for name, answer in zip(results, answers)}
        finally:
            for tensor in given:
                self._library.TF_DeleteTensor(tensor)

    def _call(self, name, *arguments):
        return ctypes.c_void_p(getattr(self._library, name)(*arguments))

    def _check(self, rule, remedy):
        code = self._library.TF_GetCode(self._status)
        if code:
            message = ctypes.string_at(self._library.TF_Message(self._status)).decode(errors="replace")
            # Without places in the graph.
            message = re.sub(r"\s*(\[\[)?\{\{.*?\}\}(\]\])?", "", message).strip()
            raise ValueError(f"{rule}, which failed (code {code}: {message}). {remedy}")

    def _places(self, tensors):
        places = (Output * len(tensors))()
        for place, tensor in zip(places, tensors.values()):
            operation, _, index = tensor.name.rpartition(":")
            place.operation = self._call("TF_GraphOperationByName", self._graph, operation.encode()).value
            place.index = int(index)
        return places

    def _tensor(self, array, kind):
        """Returns a new tensor of the library. Deleting it leaves the contents of long strings behind."""
        size = STRING_BYTES * array.size if kind == STRING else array.nbytes
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        made = self._call("TF_AllocateTensor", kind, shape, array.ndim, ctypes.c_size_t(size))
        data = self._library.TF_TensorData(made)
        if kind == STRING:
            for index, text in enumerate(array.ravel()):
                place = ctypes.c_void_p(data + STRING_BYTES * index)
                self._library.TF_StringInit(place)
                self._library.TF_StringCopy(place, text, ctypes.c_size_t(len(text)))
        elif array.nbytes:
            ctypes.memmove(data, array.ctypes.data, array.nbytes)
        return made

    def _array(self, kind, answer):
        answer = ctypes.c_void_p(answer)
        shape = [self._library.TF_Dim(answer, axis) for axis in range(self._library.TF_NumDims(answer))]
        array = np.empty(shape, kind)
        data = self._library.TF_TensorData(answer)
        if kind == np.object_:
            for index in range(array.size):
                place = ctypes.c_void_p(data + STRING_BYTES * index)
                start, size = self._library.TF_StringGetDataPointer(place), self._library.TF_StringGetSize(place)
                array.flat[index] = ctypes.string_at(start, size)
        elif array.nbytes:
            ctypes.memmove(array.ctypes.data, data, array.nbytes)
        self._library.TF_DeleteTensor(answer)
        return array


def load_library():
    """Returns the library of the installed tensorflow package, none of whose Python is imported."""
    spec = importlib.util.find_spec("tensorflow")
    folders = (spec and spec.submodule_search_locations) or []
    found = [Path(folder) / LIBRARY for folder in folders if (Path(folder) / LIBRARY).is_file()]
    if not found:
        raise ImportError(
            f"SavedModels are run by {LIBRARY} of TensorFlow. Received: it is not installed for this Python on Linux. "
            "Install it with: pip install tensorflow"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Not RTLD_GLOBAL, with which numpy.random crashes when it is imported later (TensorFlow 2.21).
    library = ctypes.CDLL(str(found[0]))
    for name, kind in RESULTS.items():
        getattr(library, name).restype = kind
    return library


def as_type(name, array, kind):
    """Returns an array as contiguous one of type `kind`, or raises a `ValueError` if that changes what it means."""
    array = np.asarray(array)
    strings = kind == np.object_
    if strings != (array.dtype == np.object_) or not (strings or np.can_cast(array.dtype, kind, "same_kind")):
        raise ValueError(
            f"An input has the type of the signature. Received: {name} of {array.dtype}. "
            f"Pass {'files of bytes' if strings else np.dtype(kind).name}."
        )
    return np.ascontiguousarray(array, kind).reshape(array.shape)


def read_fields(message):
    """Yields number and value of each field of a protocol buffer: an integer, or bytes."""
    position = 0

    def integer():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << 64) if value >> 63 else value

    while position < len(message):
        tag = integer()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, integer()
        else:
            length = integer() if kind == 2 else {1: 8, 5: 4}[kind]
            yield tag >> 3, message[position : position + length]
            position += length


def read_map(message, number):
    """Yields key and value of a map of messages that is field `number`."""
    for field, entry in read_fields(message):
        if field == number:
            pair = dict(read_fields(entry))
            yield pair[1].decode(), pair.get(2, b"")


def read_signatures(meta_graph):
    """Returns the signatures of a MetaGraphDef by name."""
    return {
        name: Signature(
            *({key: read_tensor(value) for key, value in sorted(read_map(signature, number))} for number in (1, 2))
        )
        for name, signature in sorted(read_map(meta_graph, 5))
        if not name.startswith("__")  # The operation that initializes the SavedModel.
    }


def read_tensor(message):
    """Returns a TensorInfo."""
    fields = dict(read_fields(message))
    shape = list(read_fields(fields.get(3, b"")))
    sizes = tuple(dict(read_fields(dimension)).get(1, 0) for number, dimension in shape if number == 2)
    return Tensor(fields[1].decode(), fields[2], None if (3, 1) in shape else sizes)


def expanded(text):
    """Returns a path with the home folder in the place of a `~` at its start."""
    return Path(os.path.expanduser(text))


def read_inputs(signature, pairs):
    """Returns the arrays of inputs given as NAME=FILE; the files of an input of strings are its batch."""
    files: dict[str, list[Path]] = {}
    for pair in pairs:
        name, separator, file = pair.partition("=")
        if not separator or name not in signature.inputs:
            raise ValueError(
                f"An input is given as NAME=FILE. Received: {pair}. Names are: {', '.join(signature.inputs)}."
            )
        files.setdefault(name, []).append(expanded(file))
    inputs = {}
    for name, paths in files.items():
        if signature.inputs[name].type == STRING:
            inputs[name] = np.array([path.read_bytes() for path in paths], object)
        elif len(paths) == 1 and paths[0].suffix == ".npy":
            inputs[name] = load_array(paths[0])
        else:
            raise ValueError(
                f"An input of numbers is one .npy file. Received: {', '.join(map(str, paths))} for {name}. "
                "Write the whole batch with numpy.save."
            )
    return inputs


def load_array(path):
    """Returns the array of an .npy file, or raises a `ValueError`."""
    try:
        return np.lib.format.read_array(io.BytesIO(path.read_bytes()))
    except (EOFError, ValueError) as error:
        raise ValueError(
            f"An .npy file holds an array of numbers. Received: {path}, which cannot be read ({error}). "
            "Write it with numpy.save."
        ) from error


def write_arrays(outputs, path):
    """Writes arrays by name to an .npz file, strings without their last NUL bytes."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(
            file, **{name: array.astype("S") if array.dtype == object else array for name, array in outputs.items()}
        )
    os.replace(partial, path)


def describe(array):
    """Returns a line about an array."""
    kind = "string" if array.dtype == object else array.dtype.name
    line = f"{kind} {list(array.shape)}"
    if not array.size:
        return line
    if array.dtype == object:
        return f"{line} first {array.flat[0][:60]!r}"
    return f"{line} min {float(array.min()):.6g} max {float(array.max()):.6g} mean {array.mean():.6g}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("saved_model", type=expanded, help="a version of a SavedModel")
    parser.add_argument("--signature", default="serving_default", help="the signature to run")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="an .npy file, or for strings any file, several times for a batch; without inputs signatures are listed",
    )
    parser.add_argument("--output", type=expanded, help="the .npz file to write the outputs to")
    parser.add_argument("--no_xla", action="store_true", help="do not compile with XLA, as a stock server does not")
    options = parser.parse_args(arguments)
    try:
        if options.output and (options.output.suffix != ".npz" or not options.output.parent.is_dir()):
            raise ValueError(
                f"Outputs are written to an .npz file in an existing folder. Received: {options.output}. "
                "Pass for example answers.npz."
            )
        model = SavedModel(options.saved_model, xla=not options.no_xla)
        if not options.input:
            for name, signature in model.signatures.items():
                print(name)
                for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
                    for key, tensor in tensors.items():
                        print(f"  {kind:6}  {key}: {tensor}")
            return
        # Of an unknown signature `run` says what is wrong.
        signature = model.signatures.get(options.signature)
        outputs = model.run(options.signature, read_inputs(signature, options.input) if signature else {})
        if options.output:
            write_arrays(outputs, options.output)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    for name, array in outputs.items():
        print(f"{name}: {describe(array)}")


if __name__ == "__main__":
    # A console may lack letters of what is printed.
    sys.stdout.reconfigure(errors="backslashreplace")
    main()
