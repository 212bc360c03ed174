"""Pictures of a training."""

import csv

from pinets_tf.files import shown


def draw_curves(history_files, picture, columns=("loss", "accuracy"), title=None, errors=False):
    """Draws columns of one or several histories against the epoch, training dotted and validation solid.

    Args:
        history_files: a dictionary from the name of a run to the path of its `history.csv`.
        picture: the path of the PNG to write.
        columns: the columns to draw, each in a panel of its own.
        title: a line above all panels.
        errors: whether the columns are shares of right answers, drawn as errors in percent.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    figure = Figure(figsize=(5 * len(columns), 4), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns):
        for index, (name, path) in enumerate(history_files.items()):
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            epochs = [int(row["epoch"]) for row in rows]
            style = {"color": f"C{index}", "marker": "." if len(rows) < 30 else ""}
            for key, line, label in ((column, ":", None), (f"val_{column}", "-", name)):
                values = [float(row[key]) for row in rows]
                values = [100 * (1 - value) for value in values] if errors else values
                axes.plot(epochs, values, line, label=label and shown(label), **style)
        share = f"{'top-1' if column == 'accuracy' else column.replace('_', '-')} error, percent"
        axes.set(xlabel="epoch", ylabel=share if errors else column)
        axes.grid(alpha=0.3)
    axes.legend(title="solid: test, dotted: training")
    figure.suptitle(title and shown(title))
    figure.savefig(picture, dpi=120)
