"""Asks a model of TensorFlow Serving, over REST or gRPC.

    python export/serving/client.py --address localhost:8501 --model order2 cat.jpg dog.png
    python export/serving/client.py --address localhost:8500 --protocol grpc --model order2 images.npy --output out.npz
    python export/serving/client.py --address localhost:8501 --model order2 --status

Image files go to the signature encoded_images, .wav files to encoded_audio; .npy files, whose first axis counts the
samples, to serving_default. Files are sent as they are, but for photographs whose EXIF says that the camera was turned:
a server takes pixels as they are stored, so these are turned here and sent as PNG. Names and types of inputs and
outputs are asked from the server. What may pass, a server that cannot be reached or is late, is tried again; other
errors are shown as the server words them, without its places in a graph, and with the file that it refuses.
Connections are not encrypted. REST needs nothing but NumPy, gRPC the package tensorflow-serving-api, and photographs
with EXIF the package pillow.
"""

import abc
import argparse
import base64
import dataclasses
import http.client
import io
import json
import os
import re
import sys
import time
import urllib.parse
from pathlib import Path

import numpy as np

TYPES = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_HALF": np.float16,
    "DT_INT8": np.int8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT8": np.uint8,
    "DT_UINT16": np.uint16,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
    "DT_STRING": np.object_,
}
SIGNATURES = {
    ".jpg": "encoded_images",
    ".jpeg": "encoded_images",
    ".png": "encoded_images",
    ".wav": "encoded_audio",
    ".npy": "serving_default",
}
KINDS = ("inputs", "outputs")
# TensorFlow's own signature, which a server lists but cannot run.
INITIALISER = "__saved_model_init_op"
# What may pass: by gRPC's name and by HTTP's number.
PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", 503, 504)
# Where EXIF begins in JPEG, PNG and WebP, and its field that says how a picture is to be turned.
EXIF = re.compile(rb"Exif\0\0|eXIf|EXIF|profile type exif")
ORIENTATION = 274
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
BEST = 3


class ServerError(Exception):
    """An error of the server, or that there is no answer from it.

    Args:
        code: its name in gRPC, or the status of HTTP.
        message: the words of the server; what TensorFlow adds to them about its graph is left out.
        passing: whether the same request may succeed later.
    """

    def __init__(self, code, message, passing):
        message = in_plain_words(message)
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.passing = code, message, passing


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a signature says of one input or output: a type such as DT_FLOAT, and the shape, None if it is open."""

    type: str
    shape: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """The tensors of a signature by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Client(abc.ABC):
    """A model on a server; of the two protocols each has a subclass. A client is for one thread.

    Args:
        address: host and port.
        model: the name of the model on the server.
        version: a version number; the server's choice, the latest, if neither this nor a label is given.
        label: a version label.
        timeout: seconds to wait for an answer, each time.
        retries: how often a request is made again after an error that may pass.

    Raises:
        ValueError: if the address is none.
        ImportError: if gRPC is asked for without tensorflow-serving-api.
    """

    def __init__(self, address, model, version=None, label=None, timeout=10.0, retries=3):
        self.address, self.model, self.version, self.label = address, model, version, label
        self.timeout, self.retries = timeout, retries
        self._signatures = None
        self._connect(*host_and_port(address))

    def status(self):
        """Returns version, state and message of each loaded version of the model.

        Raises:
            ServerError: if the server does not know.
        """
        return self._retried(self._status)

    def signatures(self):
        """Returns the signatures of the model by name; they are asked for once.

        Raises:
            ServerError: if the server does not know.
        """
        if self._signatures is None:
            listed = self._retried(self._metadata)
            self._signatures = {name: listed[name] for name in listed if name != INITIALISER}
        return self._signatures

    def predict(self, signature, inputs):
        """Runs a signature on a batch.

        Args:
            signature: its name.
            inputs: for each input an array, of bytes objects where it is of strings.

        Returns:
            A dictionary from the name of an output to an array.

        Raises:
            ServerError: if the server refuses or does not answer.
            ValueError: if the model has no such signature, or an input has another type.
        """
        found = find_signature(self.signatures(), signature)
        typed = {
            name: as_type(name, array, found.inputs[name].type) if name in found.inputs else np.asarray(array)
            for name, array in inputs.items()
        }
        return self._retried(lambda: self._predict(signature, typed))

    @abc.abstractmethod
    def _connect(self, host, port):
        """Prepares for requests."""

    @abc.abstractmethod
    def _status(self):
        """Asks once for what `status` returns."""

    @abc.abstractmethod
    def _metadata(self):
        """Asks once for what `signatures` returns."""

    @abc.abstractmethod
    def _predict(self, signature, inputs):
        """Asks once for what `predict` returns, with inputs of the right types."""

    def _retried(self, ask):
        for attempt in range(self.retries + 1):
            try:
                return ask()
            except ServerError as error:
                if not error.passing or attempt == self.retries:
                    raise
            time.sleep(min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S))


class RestClient(Client):
    """A model on a server of REST, asked in the columnar format; see `Client`."""

    def _connect(self, host, port):
        self._connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        self._path = f"/v1/models/{urllib.parse.quote(self.model, safe='')}"
        if self.version is not None:
            self._path += f"/versions/{self.version}"
        elif self.label is not None:
            self._path += f"/labels/{urllib.parse.quote(self.label, safe='')}"

    def _status(self):
        def read(answer):
            return [
                (int(entry["version"]), entry["state"], entry.get("status", {}).get("error_message", ""))
                for entry in answer["model_version_status"]
            ]

        return self._request("GET", "", read)

    def _metadata(self):
        def read(answer):
            return {
                name: Signature(*(dict(sorted(map(_tensor_of_json, signature[key].items()))) for key in KINDS))
                for name, signature in sorted(answer["metadata"]["signature_def"]["signature_def"].items())
            }

        return self._request("GET", "/metadata", read)

    def _predict(self, signature, inputs):
        body = {"signature_name": signature, "inputs": {name: _to_json(array) for name, array in inputs.items()}}
        tensors = self.signatures()[signature].outputs

        def read(answer):
            # The server leaves out the name of a single output.
            outputs = answer["outputs"] if len(tensors) > 1 else dict.fromkeys(tensors, answer["outputs"])
            return {name: _from_json(outputs[name], tensor.type) for name, tensor in tensors.items()}

        return self._request("POST", ":predict", read, body)

    def _request(self, method, suffix, read, body=None):
        try:
            headers = {"Content-Type": "application/json"}
            self._connection.request(method, self._path + suffix, body and json.dumps(body), headers)
            answer = self._connection.getresponse()
            content = answer.read().decode(errors="replace")
        except TimeoutError as error:
            self._connection.close()
            raise ServerError(
                "DEADLINE_EXCEEDED", f"no answer from {self.address} in {self.timeout} s", True
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = error if isinstance(error, OSError) else f"{type(error).__name__}, is this the port of REST?"
            raise ServerError("UNAVAILABLE", f"no answer from {self.address} ({reason})", True) from error
        code = f"HTTP {answer.status} {answer.reason}"
        try:
            document = json.loads(content)
            if answer.status == http.HTTPStatus.OK:
                return read(document)
            message = document["error"]
        except (AttributeError, KeyError, TypeError, ValueError):
            message = content[:200] or "an empty answer"
        raise ServerError(code, message, answer.status in PASSING)


class GrpcClient(Client):
    """A model on a server of gRPC; see `Client`."""

    def _connect(self, host, port):
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise ImportError(
                "gRPC is spoken with tensorflow-serving-api. Received: it is not installed. Install it with: "
                "pip install 'pinets_tf[serving]', or use --protocol rest"
            ) from error
        options = {
            "grpc.enable_http_proxy": 0,  # As REST.
            "grpc.max_receive_message_length": -1,
            "grpc.initial_reconnect_backoff_ms": round(1000 * FIRST_WAIT_S),
            "grpc.min_reconnect_backoff_ms": round(1000 * FIRST_WAIT_S),
        }
        self._channel = grpc.insecure_channel(self.address, list(options.items()))
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def _status(self):
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            (entry.version, states.Name(entry.state), entry.status.error_message)
            for entry in self._request(self._models.GetModelStatus, request).model_version_status
        ]

    def _metadata(self):
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        answer = self._request(self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return {
            name: Signature(*(dict(sorted(map(_tensor_of_proto, getattr(entry, key).items()))) for key in KINDS))
            for name, entry in sorted(signatures.signature_def.items())
        }

    def _predict(self, signature, inputs):
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            # NumPy's own strings would lose NUL bytes at the end.
            strings = {"values": array.tolist(), "dtype": tf.string, "shape": array.shape}
            proto = tf.make_tensor_proto(**strings) if array.dtype == object else tf.make_tensor_proto(array)
            request.inputs[name].CopyFrom(proto)
        answer = self._request(self._predictions.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in sorted(answer.outputs.items())}

    def _request(self, method, request):
        import grpc

        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        elif self.label is not None:
            request.model_spec.version_label = self.label
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code = error.code().name
            raise ServerError(code, error.details(), code in PASSING) from error


PROTOCOLS = {"rest": RestClient, "grpc": GrpcClient}


# What TensorFlow adds to an error: where in its graph it was, and that an assertion failed.
PLACES = re.compile(
    r"\[\[\{\{.*?\}\}\]\]|\{\{[^{}]*\}\}|\[Op:[^\]]*\]( name: \S*)?|Graph execution error:|"
    r"Detected at node .*? defined at \(most recent call last\):|<stack traces unavailable>|assertion failed:",
    re.DOTALL,
)


def in_plain_words(message):
    """Returns an error of TensorFlow in one line, without places in its graph; of several errors the first."""
    message = " ".join(PLACES.sub("", message).split())
    several = re.search(r"root error\(s\) found\. \(0\) (?:[A-Z_]+: )?(.*?)(?: \[\[\S+\]\])* \(1\) ", message)
    return several[1] if several else message


def host_and_port(address):
    """Returns host and port of an address, or raises a `ValueError`."""
    try:
        parts = urllib.parse.urlsplit("//" + address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != address:
        raise ValueError(f"An address is HOST:PORT. Received: {address}. Pass for example localhost:8501.")
    return host, port


def find_signature(signatures, name):
    """Returns a signature by name, or raises a `ValueError` that lists them."""
    if name not in signatures:
        raise ValueError(
            f"A signature is one of the model. Received: {name}. Pass one of these with --signature: "
            f"{', '.join(signatures)}."
        )
    return signatures[name]


def as_type(name, array, type_name):
    """Returns an array as one of a type of a signature, or raises a `ValueError` if that changes what it means."""
    array = np.asarray(array)
    kind = TYPES.get(type_name)
    strings = kind == np.object_
    if not kind or strings != (array.dtype == object) or not (strings or np.can_cast(array.dtype, kind, "same_kind")):
        raise ValueError(
            f"An input has the type of the signature. Received: {name} of {array.dtype}. "
            f"Pass {'files of images or sound' if strings else f'an array of {type_name}'}."
        )
    return array.astype(kind, copy=False)


def signature_of(files):
    """Returns the signature that files of this kind are meant for, or raises a `ValueError`."""
    names = {SIGNATURES.get(file.suffix.lower()) for file in files}
    if len(names) != 1 or None in names:
        raise ValueError(
            f"Files are of one kind: images, .wav or .npy. Received: {', '.join(map(str, files)) or 'none'}. "
            f"Pass files that end in {', '.join(SIGNATURES)}, each kind in a call of its own."
        )
    return names.pop()


def read_batches(files, batch_size):
    """Yields labels and values of at most `batch_size` samples: the bytes of files, or rows of .npy files."""
    if files[0].suffix.lower() != ".npy":
        for start in range(0, len(files), batch_size):
            part = files[start : start + batch_size]
            values = np.empty(len(part), object)
            values[:] = [read_file(file) for file in part]
            yield list(map(str, part)), values
        return
    for file in files:
        array = load_array(file)
        for start in range(0, len(array), batch_size):
            part = array[start : start + batch_size]
            yield [f"{file}[{start + index}]" for index in range(len(part))], part


def read_file(file):
    """Returns the bytes of a file; a picture whose EXIF says how to turn it becomes a PNG that needs no turning.

    Raises:
        ImportError: if a picture has EXIF, and Pillow is missing.
        ValueError: if the picture cannot be turned.
        OSError: if the file cannot be read.
    """
    content = file.read_bytes()
    if SIGNATURES.get(file.suffix.lower()) != "encoded_images" or not EXIF.search(content):
        return content
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            f"Pictures with EXIF are turned with the package pillow. Received: {file}, and pillow is not installed. "
            "Install it with: pip install 'pinets_tf[serving]', or save the picture without EXIF."
        ) from error
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.getexif().get(ORIENTATION) not in range(2, 9):
                return content
            turned = io.BytesIO()
            ImageOps.exif_transpose(picture.convert("RGB") if picture.mode == "CMYK" else picture).save(turned, "PNG")
            return turned.getvalue()
    except Exception as error:  # Of many classes, those of Pillow's readers of formats.
        raise ValueError(
            f"A picture with EXIF is turned before it is sent. Received: {file}, where that failed ({error}). "
            "Save the picture again."
        ) from error


def load_array(file):
    """Returns the array of an .npy file, or raises a `ValueError`."""
    try:
        array = np.lib.format.read_array(io.BytesIO(file.read_bytes()))
    except (EOFError, ValueError) as error:
        raise ValueError(
            f"An .npy file holds an array of numbers. Received: {file}, which cannot be read ({error}). "
            "Write it with numpy.save."
        ) from error
    if not array.ndim or not array.size:
        raise ValueError(
            f"The first axis of an array counts samples, of which there is one or more. Received: {file} of shape "
            f"{array.shape}. Write an array of at least one sample."
        )
    return array


def the_input(signature, name):
    """Returns the name of the only input of a signature, or raises a `ValueError`."""
    if len(signature.inputs) != 1:
        raise ValueError(
            f"Files are for a signature with one input. Received: {name} with {', '.join(signature.inputs) or 'none'}. "
            "Pass another one with --signature, or call Client.predict."
        )
    return next(iter(signature.inputs))


def ask(client, files, signature=None, batch_size=32):
    """Sends files to a model.

    Args:
        client: a `Client`.
        files: paths of files of one kind.
        signature: the name of the signature; by default that of the kind.
        batch_size: the largest number of samples of a request.

    Returns:
        A label for each sample, and a dictionary from the name of an output to an array with a row for each.

    Raises:
        ServerError: if the server refuses or does not answer.
        ValueError: if the files do not fit the signature.
        OSError: if a file cannot be read.
    """
    signature = signature or signature_of(files)
    name = the_input(find_signature(client.signatures(), signature), signature)
    labels, answers = [], []
    for part, values in read_batches(files, batch_size):
        answer = ask_once(client, signature, name, part, values)
        shapes = {key: array.shape for key, array in answer.items()}
        if any(shape[:1] != (len(part),) for shape in shapes.values()):
            raise ValueError(
                f"An answer has a row for each sample. Received: {shapes} for {len(part)} of {signature}. "
                "Export a model with a batch axis, or call Client.predict."
            )
        labels += part
        answers.append(answer)
    if any(answer[key].shape[1:] != answers[0][key].shape[1:] for answer in answers for key in answer):
        raise ValueError(
            "Answers to all samples have one shape. "
            f"Received: others for later batches of {signature}. Send such samples in calls of their own."
        )
    return labels, {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}


def ask_once(client, signature, name, labels, values):
    """Returns what `Client.predict` returns; an error says which sample the server refuses."""
    try:
        return client.predict(signature, {name: values})
    except ServerError as error:
        if error.passing:
            raise
        for place in range(len(labels)) if len(labels) > 1 else ():
            ask_once(client, signature, name, [labels[place]], values[place : place + 1])
        about = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]} together"
        raise ServerError(error.code, f"{about}: {error.message}", False) from error


def answer_table(labels, outputs):
    """Returns rows for `print_table`: the best classes where there are probabilities, else numbers about each array.

    If the strings `classes` are among the outputs, they are the names of the best ones.
    """
    probabilities, names = outputs.get("probabilities"), outputs.get("classes")
    if probabilities is not None and probabilities.ndim == 2:
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
        if names is not None and names.dtype == object and names.shape == best.shape[:1]:
            names = [f"{name.decode(errors='replace')} " for name in names]
        else:
            names = [""] * len(best)
        heading = [f"{place}. class" for place in range(1, best.shape[1] + 1)]
        return [
            ("file", *heading),
            *(
                (label, *(f"{index} {named}({row[index]:.4f})" for index, named in zip(places, (name, *[""] * BEST))))
                for label, name, row, places in zip(labels, names, probabilities, best)
            ),
        ]
    rows = [("file", "output", "type", "shape", "min", "max", "mean")]
    for index, label in enumerate(labels):
        for name, array in outputs.items():
            value = np.asarray(array[index])
            numbers = []
            if value.size and value.dtype == object:
                numbers = [repr(value.flat[0][:30])]
            elif value.size:
                numbers = [f"{float(number):.6g}" for number in (value.min(), value.max(), value.mean())]
            kind = "string" if value.dtype == object else value.dtype.name
            rows.append((label, name, kind, "x".join(map(str, value.shape)) or "scalar", *numbers))
    return rows


def metadata_table(signatures):
    """Returns rows for `print_table` on the tensors of signatures."""
    rows = [("signature", "", "name", "type", "shape")]
    for name, signature in signatures.items():
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, tensor in tensors.items():
                shape = "any" if tensor.shape is None else str(list(tensor.shape)).replace("-1", "None")
                rows.append((name, kind, key, tensor.type, shape))
    return rows


def print_table(rows):
    """Prints rows of cells, the first row the heading, in aligned columns."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, (row[column] for row in rows if column < len(row)))) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def write_arrays(outputs, path):
    """Writes outputs by name to an .npz file, or the only one to an .npy file; strings lose NUL bytes at their end."""
    arrays = {name: array.astype("S") if array.dtype == object else array for name, array in outputs.items()}
    if path.suffix == ".npy" and len(arrays) != 1:
        raise ValueError(
            f"An .npy file holds one output. Received: {path} for {', '.join(arrays)}. Pass a name that ends in .npz."
        )
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, *arrays.values())
    else:
        np.savez(content, **arrays)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.getvalue())
    os.replace(partial, path)


def whole(least, most):
    """Returns a type of an argument: integers from `least` to `most`."""

    def parse(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"A whole number from {least} to {most} is needed. Received: {text}. Pass one of them."
            )
        return int(text)

    return parse


def seconds(most):
    """Returns a type of an argument: seconds, more than 0 and at most `most`."""

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(
                f"Seconds above 0 and up to {most} are needed. Received: {text}. Pass such a number."
            )
        return value

    return parse


def expanded(text):
    """Returns a path with the home folder in the place of a `~` at its start, which shells leave behind `--flag=`."""
    return Path(os.path.expanduser(text))


def add_server_flags(parser, batch_size):
    """Adds to a parser what both scripts of a server need to know."""
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="rest", help="by default rest")
    parser.add_argument("--model", required=True, help="the name of the model on the server")
    versions = parser.add_mutually_exclusive_group()
    versions.add_argument("--version", type=whole(0, 2**63 - 1), help="a version; by default the latest")
    versions.add_argument("--label", help="a version label, such as stable")
    parser.add_argument("--signature", default="auto", help="a signature; by default that of the kind of files")
    parser.add_argument("--batch_size", type=whole(1, 65536), default=batch_size, help="most samples of a request")
    parser.add_argument("--timeout", type=seconds(3600), default=10.0, help="seconds to wait for an answer")


def connect(options, retries):
    """Returns a client for flags of `add_server_flags` and an address."""
    make = PROTOCOLS[options.protocol]
    return make(options.address, options.model, options.version, options.label, options.timeout, retries)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=expanded, help="images, or .wav files, or .npy files")
    parser.add_argument("--address", default="localhost:8501", help="host and port of the protocol")
    add_server_flags(parser, batch_size=32)
    parser.add_argument("--retries", type=whole(0, 20), default=3, help="how often what may pass is tried again")
    parser.add_argument(
        "--output", type=expanded, help="the .npz file, or of one output .npy file, for the raw answers"
    )
    parser.add_argument("--status", action="store_true", help="show the versions of the model and their states")
    parser.add_argument("--metadata", action="store_true", help="show the signatures of the model")
    options = parser.parse_args(arguments)
    if bool(options.files) == (options.status or options.metadata):
        parser.error(
            "Files are sent, or --status or --metadata is asked for. Received: both or none. Pass one of them."
        )
    try:
        if options.output and (options.output.suffix not in (".npy", ".npz") or not options.output.parent.is_dir()):
            raise ValueError(
                "Answers are written to an .npz or .npy file in an existing folder. "
                f"Received: {options.output}. Pass for example answers.npz."
            )
        client = connect(options, options.retries)
        if options.status:
            print_table([("version", "state", "message"), *client.status()])
        if options.metadata:
            print_table(metadata_table(client.signatures()))
        if options.files:
            signature = None if options.signature == "auto" else options.signature
            labels, outputs = ask(client, options.files, signature, options.batch_size)
            if options.output:
                write_arrays(outputs, options.output)
            print_table(answer_table(labels, outputs))
    except (ImportError, OSError, ServerError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")


def _tensor_of_json(item):
    name, entry = item
    shape = entry.get("tensor_shape", {})
    sizes = tuple(int(dimension["size"]) for dimension in shape.get("dim", []))
    return name, Tensor(entry["dtype"], None if shape.get("unknown_rank") else sizes)


def _tensor_of_proto(item):
    from tensorflow.core.framework import types_pb2

    name, entry = item
    shape = entry.tensor_shape
    sizes = None if shape.unknown_rank else tuple(dimension.size for dimension in shape.dim)
    return name, Tensor(types_pb2.DataType.Name(entry.dtype), sizes)


def _to_json(array):
    def encoded(value):
        return [encoded(each) for each in value] if isinstance(value, list) else {"b64": _base64(value)}

    return encoded(array.tolist()) if array.dtype == object else array.tolist()


def _base64(content):
    return base64.b64encode(content).decode()


def _from_json(value, type_name):
    def decoded(value):
        if isinstance(value, list):
            return [decoded(each) for each in value]
        return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()

    return np.array(decoded(value), object) if type_name == "DT_STRING" else np.array(value, TYPES[type_name])


if __name__ == "__main__":
    # A console may lack letters of what is printed.
    sys.stdout.reconfigure(errors="backslashreplace")
    main()
