"""What has to be said beside a score, so that it can be compared."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """The seven things that make a score comparable; each must be stated, and `str` makes one line of them.

    Args:
        network: which network the features are of, with its weights.
        resize: how images reach the size of the network.
        rounding: whether images were rounded to uint8 before the network.
        images: how many images were scored.
        reference: which images they were compared with, with the split and the number.
        splits: in how many splits the Inception Score was taken.
        weights: whether those of the generator were averaged.

    Raises:
        ValueError: if one of them is missing.
    """

    network: str
    resize: str
    rounding: str
    images: int
    reference: str
    splits: int | str
    weights: str

    def __post_init__(self):
        missing = [field.name for field in dataclasses.fields(self) if not str(getattr(self, field.name) or "").strip()]
        if missing:
            raise ValueError(
                "Scores compare where network, resize, rounding, images, reference, splits and weights are stated. "
                f"Received: a statement without {', '.join(missing)}. State it, in words where there is none of it."
            )

    def __str__(self):
        return (
            f"network: {self.network}; resize: {self.resize}; rounding: {self.rounding}; images: {self.images:,}; "
            f"reference: {self.reference}; IS splits: {self.splits}; weights: {self.weights}"
        )
