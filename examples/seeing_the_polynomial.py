"""What a trained polynomial network computes, in four pictures: a gallery of `pinets_tf.analysis`.

    pip install 'pinets_tf[examples]'
    python examples/seeing_the_polynomial.py

Trains a CCP (Eq. 3 of the paper) without activation functions on the images of Fashion-MNIST that come with the
package, twice: once at its order from the start, and once at order 1 that is raised step by step. Then draws

    contributions.png  what each order adds to the class scores of some test images (`contributions`)
    interactions.png   which pixels interact: rows of W^[2] of Eq. 2, beside the weights of order 1 (`coefficients`)
    truncation.png     accuracy of the networks without their higher orders (`truncate`)
    growth.png         accuracy during training, without a jump where the order is raised (`grow`)

and writes gallery.md, which says what was measured. Takes about a minute on two cores.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from pinets_tf import script, training
from pinets_tf.analysis import coefficients, contributions, degree, evaluate, grow, polynomial_summary, truncate
from pinets_tf.data import images
from pinets_tf.layers import CCP

FLAGS = flags.FLAGS
script.define_workdir("runs/seeing_the_polynomial", "Folder for the pictures and gallery.md.")
flags.DEFINE_integer("order", 3, "Order of the polynomial, from 2 to 6.")
flags.DEFINE_integer("rank", 32, "Rank of the polynomial.", lower_bound=1)
flags.DEFINE_integer("epochs", 5, "Epochs at each order; the network of one order has them ORDER times.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of initial values and order of the images.", lower_bound=0)

BATCH_SIZE = 50
RATE, WEIGHT_DECAY = 3e-3, 1.0
# Colours of Okabe and Ito, which the colour-blind can tell apart: one for each order.
COLORS = ("#999999", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
AT_ONCE, GROWN = "#D55E00", "#0072B2"
SHOWN_CLASSES, SHOWN_PIXELS, LETTERS = 3, 3, "ABC"
# Pixels whose interactions are looked for are so far apart, and those that are drawn twice as far.
SPACING = 6


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network, its test accuracy after each epoch, and the largest change of a class score at each growth."""

    network: keras.Model
    accuracies: list[float]
    jumps: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Test images, their class scores, what each order adds to them, and those of the orders up to each one."""

    z: np.ndarray
    labels: np.ndarray
    whole: np.ndarray
    parts: np.ndarray
    scores: list[np.ndarray]

    def accuracies(self):
        return [float((scores.argmax(-1) == self.labels).mean()) for scores in self.scores]


def new_figure(width, height):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure, picture):
    """Writes a picture that is the old one or the new one, whenever it is read."""
    partial = picture.with_name(picture.name + ".partial")
    figure.savefig(partial, format="png", dpi=120)
    os.replace(partial, picture)


def build(shape, classes, order):
    """Makes a network that takes z, the differences of pixels from the mean image.

    Means of 4 x 4 pixels, which overlap, are linear, and make the pictures of the coefficients smooth.
    """
    layers = [
        keras.Input(shape, name="z"),
        keras.layers.AveragePooling2D(4, strides=2, padding="same", name="means"),
        keras.layers.Flatten(name="flatten"),
        CCP(classes, order, FLAGS.rank, name="ccp"),
    ]
    return keras.Sequential(layers, name="network")


def train(network, z, data, first, last):
    """Trains from one epoch to another and returns the test accuracy after each of them.

    The learning rate falls from the first to the last epoch of all orders, whatever the network.
    """
    network.compile(
        keras.optimizers.AdamW(RATE, weight_decay=WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    epochs = FLAGS.order * FLAGS.epochs
    history = network.fit(
        z["train"],
        data.y_train,
        BATCH_SIZE,
        initial_epoch=first,
        epochs=last,
        validation_data=(z["test"], data.y_test),
        callbacks=[keras.callbacks.LearningRateScheduler(lambda n: RATE * (1 + math.cos(math.pi * n / epochs)) / 2)],
        verbose=0,
    )
    accuracies = history.history["val_accuracy"]
    order = network.get_layer("ccp").order
    print(f"  order {order}, epochs {first + 1} to {last}: accuracy {accuracies[-1]:.3f} on test images", flush=True)
    return accuracies


def trained_at_once(z, data):
    network = build(z["test"].shape[1:], data.classes, FLAGS.order)
    return Trained(network, train(network, z, data, 0, FLAGS.order * FLAGS.epochs))


def trained_by_growth(z, data):
    network, jumps = build(z["test"].shape[1:], data.classes, 1), []
    accuracies = train(network, z, data, 0, FLAGS.epochs)
    for order in range(2, FLAGS.order + 1):
        before = network.predict(z["test"], verbose=0)
        network = grow(network, order)
        jumps.append(float(np.abs(network.predict(z["test"], verbose=0) - before).max()))
        accuracies += train(network, z, data, len(accuracies), len(accuracies) + FLAGS.epochs)
    return Trained(network, accuracies, jumps)


def measure(network, z, labels):
    orders = range(degree(network) + 1)
    scores = [truncate(network, order).predict(z, verbose=0) for order in orders]
    return Measured(z, labels, network.predict(z, verbose=0), contributions(network, z), scores)


def draw_contributions(measured, data, picture):
    """Draws bars for an image that is answered rightly from each order on, and for one that never is."""
    orders = range(len(measured.parts))
    right = np.stack([scores.argmax(-1) == measured.labels for scores in measured.scores])
    # Of each image how many of the highest orders leave the answer right; order 0 answers all images alike.
    streak = np.cumprod(right[:0:-1], axis=0).sum(0)
    cases = {f"right from order {n} on": len(orders) - n for n in orders[1:]} | {"wrong with all orders together": 0}
    found = {name: np.flatnonzero(streak == length) for name, length in cases.items()}
    found = {name: indices for name, indices in found.items() if len(indices)}
    figure = new_figure(11, 2.6 * len(found) + 0.8)
    panels = figure.subplots(len(found), 2, squeeze=False, width_ratios=(1, 5))
    width = 0.8 / len(orders)
    for (image, bars), (name, indices) in zip(panels, found.items()):
        index = indices[0]
        label, total = measured.labels[index], measured.whole[index]
        image.imshow(data.x_test[index, ..., 0], cmap="gray")
        image.set_title(f"labelled {data.class_names[label]}", fontsize=10)
        image.axis("off")
        # The label, and the classes that compete with it.
        answers = [label, *(scores[index].argmax() for scores in measured.scores[1:]), *np.argsort(-total)]
        shown = list(dict.fromkeys(answers))[:5]
        for n in orders:
            places = np.arange(len(shown)) + (n - (len(orders) - 1) / 2) * width
            bars.bar(places, measured.parts[n, index, shown], width, color=COLORS[n], label=f"order {n}")
        places = np.arange(len(shown))
        bars.hlines(total[shown], places - 0.45, places + 0.45, "black", linewidth=2, label="sum: the class score")
        names = [f"{data.class_names[c]}\n(label)" if c == label else data.class_names[c] for c in shown]
        bars.set_xticks(places, names)
        bars.axhline(0, color="black", linewidth=0.6)
        bars.set_ylabel("added to the score")
        said = ", ".join(data.class_names[measured.scores[n][index].argmax()] for n in orders[1:])
        bars.set_title(f"{name}\nanswers with orders up to {', '.join(map(str, orders[1:]))}: {said}", fontsize=10)
        bars.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle("What each order adds to the class scores of a test image")
    save(figure, picture)
    sizes = np.abs(measured.parts - measured.parts.mean(-1, keepdims=True)).mean((1, 2))
    listed = ", ".join(f"{size:.2f} by order {n}" for n, size in enumerate(sizes))
    counted = ", ".join(f"{len(indices)} are {name}" for name, indices in found.items())
    return (
        f"What each order adds to the class scores of one test image of each kind; over all {len(measured.z):,} a "
        f"score is moved against the mean of the classes by {listed} (mean absolute value), and {counted}."
    )


def strongest(rows, grid, width):
    """Returns numbers of rows of W^[2] that are largest, of pixels apart from each other."""
    chosen: list[int] = []
    for row in np.argsort(-np.linalg.norm(rows, axis=-1)):
        place = np.array(divmod(grid[row], width))
        if all(np.abs(place - divmod(grid[other], width)).max() >= 2 * SPACING for other in chosen):
            chosen.append(int(row))
    return chosen[:SHOWN_PIXELS]


def scaled(values):
    """Returns a power of ten, a limit for colours in it, and the factor that takes values to it."""
    limit = np.percentile(np.abs(values), 99.5)
    power = math.floor(math.log10(limit)) if limit > 0 else 0
    return power, max(limit * 10.0**-power, 1e-6), 10.0**-power


def draw_interactions(network, measured, data, picture):
    """Draws, for the classes to which order 2 matters most, weights of single pixels and of pairs with one pixel."""
    height, width = shape = measured.z.shape[1:3]
    grid = [row * width + column for row in range(2, height, SPACING) for column in range(2, width, SPACING)]
    W_1 = coefficients(network, 1).tensors[0]
    W_2 = coefficients(network, entries=(grid, slice(None)))
    second = measured.parts[2] - measured.parts[2].mean(-1, keepdims=True)
    gains = [second[measured.labels == c, c].mean() for c in range(data.classes)]
    classes = np.argsort(gains)[::-1][:SHOWN_CLASSES]
    pixels = {c: strongest(W_2[c], grid, width) for c in classes}
    scales = {1: scaled(W_1[classes]), 2: scaled(np.concatenate([W_2[c, pixels[c]] for c in classes]))}

    figure = new_figure(12.5, 2.6 * len(classes) + 1.4)
    panels = figure.subplots(len(classes) + 1, 2 + SHOWN_PIXELS, height_ratios=[1] * len(classes) + [0.06])
    mappables, sentences = {}, []
    for row, c in zip(panels, classes):
        mean = data.x_train[data.y_train == c].mean(0)[..., 0]
        row[0].imshow(mean, cmap="gray")
        row[0].set_ylabel(data.class_names[c], fontsize=12)
        maps = [(1, W_1[c], "order 1: each pixel")]
        for letter, number in zip(LETTERS, pixels[c]):
            place = divmod(grid[number], width)
            badge = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
            row[0].text(*place[::-1], letter, ha="center", va="center", fontsize=9, bbox=badge)
            maps.append((2, W_2[c, number], f"order 2: each pixel with {letter}"))
        row[0].set_title("mean image", fontsize=10)
        for axes, (order, values, title) in zip(row[1:], maps):
            _, limit, factor = scales[order]
            mappables[order] = axes.imshow(values.reshape(shape) * factor, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.contour(mean, [mean.max() / 2], colors="0.35", linewidths=0.8)
            axes.set_title(title, fontsize=10)
        for axes, number in zip(row[2:], pixels[c]):
            axes.plot(*divmod(grid[number], width)[::-1], "x", color="black", markersize=8, markeredgewidth=2)
        for axes in row:
            axes.set(xticks=[], yticks=[])
        first = pixels[c][0]
        partner = int(np.abs(W_2[c, first]).argmax())
        sentences.append(
            f"{data.class_names[c]}, whose order 2 adds {gains[c]:.2f} to the score of its images: A is "
            f"{_place(grid[first], width)}, with the largest weight {W_2[c, first, partner]:+.1e} at "
            f"{_place(partner, width)}"
        )
    for axes in panels[-1]:
        axes.remove()
    grid_spec = panels[0, 0].get_gridspec()
    for order, columns, label in (
        (1, slice(1, 2), "$W^{[1]}$(class, pixel)"),
        (2, slice(2, None), "$W^{[2]}$(class, marked pixel ×, pixel)"),
    ):
        bar = figure.add_subplot(grid_spec[-1, columns])
        figure.colorbar(mappables[order], cax=bar, orientation="horizontal", extend="both")
        bar.set_xlabel(f"{label}, in $10^{{{scales[order][0]}}}$")
    figure.suptitle(
        "Weights of pixels z (order 1) and of products of two pixels (order 2): red raises the score of the class\n"
        "where they are positive, blue lowers it.  z: brighter than the mean training image, in standard deviations",
        fontsize=11,
    )
    save(figure, picture)
    return (
        "Weights of the pixels at order 1, and of all pairs with a marked pixel at order 2, for the classes to whose "
        f"own images order 2 adds most ({'; '.join(sentences)})."
    )


def _place(pixel, width):
    row, column = divmod(pixel, width)
    return f"row {row}, column {column}"


def draw_truncation(at_once, grown, picture):
    orders = np.arange(len(at_once))
    figure = new_figure(max(8, 1.6 * len(orders)), 4.8)
    axes = figure.subplots()
    for name, accuracies, shift, color in (
        (f"of order {FLAGS.order} from the start", at_once, -0.2, AT_ONCE),
        (f"grown from order 1 to {FLAGS.order}", grown, 0.2, GROWN),
    ):
        percent = 100 * np.array(accuracies)
        bars = axes.bar(orders + shift, percent, 0.38, color=color, label=f"network {name}")
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=9)
    ticks = ["order 0\n(a constant)", "orders 0 to 1\n(an affine map)", *(f"orders 0 to {n}" for n in orders[2:])]
    ticks[-1] += "\n(the whole)"
    axes.set_xticks(orders, ticks)
    axes.set(ylabel="test images answered rightly, percent", ylim=(0, 100))
    axes.set_title("Accuracy of a network whose higher orders are left out")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False)
    save(figure, picture)
    steps = [", ".join(f"{value:.1%}" for value in accuracies) for accuracies in (at_once, grown)]
    return (
        f"Accuracy without the orders above n = 0 to {FLAGS.order}: {steps[0]} for the network that has order "
        f"{FLAGS.order} from the start, {steps[1]} for the one that was grown."
    )


def draw_growth(at_once, grown, picture):
    figure = new_figure(8.5, 4.8)
    axes = figure.subplots()
    epochs = np.arange(1, len(grown.accuracies) + 1)
    lines = (
        (f"order {FLAGS.order} from the start", at_once, "s--", AT_ONCE),
        (f"grown from order 1 to {FLAGS.order}", grown, "o-", GROWN),
    )
    for name, trained, style, color in lines:
        axes.plot(epochs, 100 * np.array(trained.accuracies), style, color=color, markersize=4, label=name)
    growths = [FLAGS.epochs * n for n in range(1, FLAGS.order)]
    for epoch in growths:
        axes.axvline(epoch, color="0.6", linewidth=1, linestyle=":")
    axes.plot(
        growths,
        [100 * grown.accuracies[epoch - 1] for epoch in growths],
        "D",
        color=GROWN,
        markerfacecolor="white",
        markersize=10,
        markeredgewidth=1.8,
        label=f"where it grew (a class score changed by {max(grown.jumps):.0e} at most)",
    )
    for n in range(1, FLAGS.order + 1):
        middle = (n - 0.5) * FLAGS.epochs
        axes.text(middle, 0.98, f"order {n}", color=GROWN, ha="center", va="top", transform=axes.get_xaxis_transform())
    axes.set(xlabel="epochs of training", ylabel="test images answered rightly, percent")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0, len(epochs) + 0.3)
    axes.margins(y=0.15)
    axes.grid(alpha=0.25)
    axes.set_title("A network whose order is raised during training")
    axes.legend(loc="lower right")
    save(figure, picture)
    ends = [f"{grown.accuracies[FLAGS.epochs * n - 1]:.1%} at order {n}" for n in range(1, FLAGS.order + 1)]
    return (
        f"Test accuracy during training: a network that grows ends with {', '.join(ends)}, and one that has order "
        f"{FLAGS.order} from the start with {at_once.accuracies[-1]:.1%} after as many epochs; where it grew, no class "
        f"score of a test image changed by more than {max(grown.jumps):.1e}."
    )


def table(measured, grown):
    """Returns rows of what is left of a network up to each order, and of the grown one."""
    whole = measured.whole
    rows = [["orders", "accuracy", "same answer as the whole", "farthest from the whole", "accuracy of the grown"]]
    for n, (accuracy, of_grown) in enumerate(zip(measured.accuracies(), grown.accuracies())):
        scores = measured.scores[n]
        same, farthest = (scores.argmax(-1) == whole.argmax(-1)).mean(), np.abs(scores - whole).max()
        rows.append([f"0 to {n}" if n else "0", f"{accuracy:.3f}", f"{same:.1%}", f"{farthest:.1e}", f"{of_grown:.3f}"])
    return rows


def check(network, measured):
    """Returns how far the same numbers differ that were computed in several ways, in words."""
    whole, highest = measured.whole, measured.scores[-1]
    equals = "equals" if np.allclose(highest, whole, rtol=1e-4, atol=1e-4) else "differs from"
    affine = np.abs(evaluate(coefficients(network, 1), measured.z) - measured.scores[1]).max()
    return (
        f"truncate(network, {degree(network)}) {equals} the whole network: largest difference of a class score "
        f"{np.abs(highest - whole).max():.1e}, of scores up to {np.abs(whole).max():.0f}\n"
        f"evaluate(coefficients(network, 1), z) and truncate(network, 1): largest difference {affine:.1e}"
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --order=3. Received: {argv[1]!r}.")
    with training.exit_on_bad_input():
        if not 2 <= FLAGS.order < len(COLORS):
            raise ValueError(
                "Pairs of pixels are terms of order 2, and pictures tell few orders apart. "
                f"Received: --order={FLAGS.order}. Pass an order from 2 to {len(COLORS) - 1}."
            )
        new_figure(1, 1)
        config = {name: FLAGS[name].value for name in ("order", "rank", "epochs", "seed")}
        folder = training.open_workdir(FLAGS.workdir, config)
    data = images.load(images.SAMPLE)
    training.set_up("none", seed=FLAGS.seed)
    mean = data.x_train.mean(0)
    deviation = (data.x_train - mean).std()
    z = {"train": (data.x_train - mean) / deviation, "test": (data.x_test - mean) / deviation}
    z = {split: values.astype("float32") for split, values in z.items()}

    print(f"training at order {FLAGS.order} from the start", flush=True)
    at_once = trained_at_once(z, data)
    print(f"training from order 1 to {FLAGS.order}", flush=True)
    grown = trained_by_growth(z, data)
    measured = measure(at_once.network, z["test"], data.y_test)
    of_grown = measure(grown.network, z["test"], data.y_test)

    captions = {
        "contributions.png": draw_contributions(measured, data, folder / "contributions.png"),
        "interactions.png": draw_interactions(at_once.network, measured, data, folder / "interactions.png"),
        "truncation.png": draw_truncation(measured.accuracies(), of_grown.accuracies(), folder / "truncation.png"),
        "growth.png": draw_growth(at_once, grown, folder / "growth.png"),
    }
    summary, agreement = polynomial_summary(at_once.network), check(at_once.network, measured)
    sections = [
        "# Seeing the polynomial",
        f"A CCP of order {FLAGS.order} and rank {FLAGS.rank} on {len(data.x_train):,} images of Fashion-MNIST, with "
        f"{len(data.x_test):,} others as test images. z is the difference of an image from the mean training image, in "
        f"standard deviations of {deviation:.0f} grey levels.",
        *(f"![{Path(name).stem}]({name})\n\n{caption}" for name, caption in captions.items()),
        summary.markdown(),
        agreement.replace("\n", "; ") + ".",
    ]
    training.write_atomically(folder / "gallery.md", "\n\n".join(sections) + "\n")
    print(f"\n{summary}\n")
    training.print_table(table(measured, of_grown))
    print(f"{agreement}\nPictures, and what they show: {folder / 'gallery.md'}")


if __name__ == "__main__":
    script.start()
    app.run(main)
