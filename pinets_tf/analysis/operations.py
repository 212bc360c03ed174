"""What the operations of `keras.ops` in a graph are: Keras exports them as functions, not as the classes in graphs."""

import math

import keras

# Affine in their first argument, of which alone they are called here, without and with a multiplication.
MOVES = (
    "BroadcastTo",
    "Cast",
    "Copy",
    "Cumsum",
    "ExpandDims",
    "Flip",
    "GetItem",
    "Moveaxis",
    "Negative",
    "Pad",
    "Ravel",
    "Repeat",
    "Reshape",
    "Roll",
    "Split",
    "Squeeze",
    "Sum",
    "Swapaxes",
    "Take",
    "Tile",
    "Transpose",
    "Unstack",
)
_MAPS = ("AveragePool", "Conv", "ConvTranspose", "DepthwiseConv", "Divide", "Dot", "Mean", "Resize", "TrueDivide")
SUMS = ("Add", "Concatenate", "Stack", "Subtract")
# Linear in each tensor.
_PRODUCTS = ("Einsum", "Matmul", "Multiply")


def power_of(operation, node):
    """Returns n if an operation is the n-th power of its input, n >= 1, or `None`."""
    name = _name(operation)
    if name == "Square":
        return 2
    if name != "Power" or len(node.arguments.args) != 2:
        return None
    base, exponent = node.arguments.args
    whole = isinstance(exponent, (int, float)) and exponent >= 1 and exponent == int(exponent)
    return int(exponent) if whole and isinstance(base, keras.KerasTensor) else None


def kind_of_operation(operation, node):
    """Returns "linear", "sum" or "product" for an operation as it is called in a graph, or `None`."""
    name, inputs = _name(operation), node.input_tensors
    of_first_alone = len(inputs) == 1 and next(iter(node.arguments.args), None) is inputs[0]
    if not _treats_each_element_alone(operation, node):
        return None
    if name in (*MOVES, *_MAPS):
        to_integers = name == "Cast" and not keras.backend.is_float_dtype(operation.dtype)
        return "linear" if of_first_alone and not to_integers else None
    if name in SUMS:
        return "sum"
    return "product" if name in _PRODUCTS else None


def is_elementwise(operation):
    """Returns whether a layer or operation that is a product sums nothing, so that it may be one with ones instead."""
    if isinstance(operation, keras.layers.Multiply) or _name(operation) == "Multiply":
        return True
    if _name(operation) != "Einsum":
        return False
    operands, arrow, result = operation.subscripts.replace(" ", "").partition("->")
    return bool(arrow) and {*operands.replace(",", "")} == {*result}


def operation_multiplies(operation):
    """Returns whether an operation that is "linear" or a "sum" multiplies numbers."""
    return _name(operation) in _MAPS


def _name(operation):
    return type(operation).__name__ if type(operation).__module__.startswith("keras.") else ""


def _treats_each_element_alone(operation, node):
    """Returns whether the first axis, of the elements of a batch, stays and nothing is moved or summed along it."""
    name, (x, *others), y = _name(operation), node.input_tensors, node.output_tensors[0]
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        return False
    if name in ("Ravel", "Reshape"):
        unknown, known = zip(*((shape.count(None), math.prod(filter(None, shape))) for shape in (x.shape, y.shape)))
        return unknown[0] == unknown[1] and known[0] == known[1]
    if name == "GetItem":
        key = node.arguments.args[1]
        first = key[0] if isinstance(key, tuple) else key
        return first is Ellipsis or first == slice(None)
    if name == "Einsum":
        operands, arrow, result = operation.subscripts.replace(" ", "").partition("->")
        if not arrow:
            # As NumPy has it, in the order of the alphabet.
            once = sorted(label for label in operands if label.isalpha() and operands.count(label) == 1)
            result = "".join(["..." if "..." in operands else "", *once])
        symbolic = [isinstance(x, keras.KerasTensor) for x in node.arguments.args]
        return all(operand[:1] == result[:1] for operand, of_batch in zip(operands.split(","), symbolic) if of_batch)
    if any(len(other.shape) != len(x.shape) for other in others):
        return False
    if name == "Matmul":
        return not others or len(x.shape) > 2
    if name == "Pad":
        return tuple(operation.pad_width[0]) == (0, 0)
    if name == "Tile":
        repeats = operation.repeats if isinstance(operation.repeats, (tuple, list)) else (operation.repeats,)
        return len(repeats) < len(x.shape) or (len(repeats) == len(x.shape) and repeats[0] == 1)
    if name == "Transpose":
        return operation.axes is not None and operation.axes[0] == 0
    attributes = ("axis", "axis1", "axis2", "source", "destination")
    axes = keras.tree.flatten([getattr(operation, key) for key in attributes if hasattr(operation, key)])
    if name == "Squeeze":
        axes = [axis for axis in axes if axis is not None]
    rank = max(len(x.shape), len(y.shape))
    return all(axis is not None and axis % rank != 0 for axis in axes)
