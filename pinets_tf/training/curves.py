"""Pictures of a training."""

import csv


def draw_curves(history_files, picture, metric="accuracy", title=None):
    """Draws loss and `metric` of one or several runs against the epoch, training dotted and validation solid.

    Args:
        history_files: a dictionary from the name of a run to the path of its `history.csv`.
        picture: the path of the PNG to write.
        metric: the column to draw beside the loss.
        title: a line above both panels.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib, which is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("loss", metric)):
        for index, (name, path) in enumerate(history_files.items()):
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            epochs = [int(row["epoch"]) for row in rows]
            style = {"color": f"C{index}", "marker": "." if len(rows) < 30 else ""}
            axes.plot(epochs, [float(row[column]) for row in rows], ":", **style)
            axes.plot(epochs, [float(row[f"val_{column}"]) for row in rows], "-", label=name, **style)
        axes.set(xlabel="epoch", ylabel=column)
        axes.grid(alpha=0.3)
    axes.legend(title="solid: test, dotted: training")
    figure.suptitle(title)
    figure.savefig(picture, dpi=120)
