"""The prediction for one clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SCENE = ""  # the person of a prediction for all persons together


@dataclass
class Prediction:
    """The scores of one clip and its position in a recording.

    source: the file. person: the id of the track, "" for a whole scene. begin, end: seconds. probabilities, scores:
    (num_class,); scores are logits, or probabilities if a test averages several samples of a clip. observed, imputed,
    notes: see `torchlight.predict.clips.Clip`. features: (C,) if requested.
    """

    source: str
    person: str
    begin: float
    end: float
    probabilities: np.ndarray
    scores: np.ndarray
    class_names: Sequence[str]
    observed: float = 1.0
    imputed: int = 0
    notes: tuple[str, ...] = ()
    features: np.ndarray | None = None

    @property
    def label(self) -> int:
        """The number of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def name(self) -> str:
        """The name of the most probable class."""
        return self.class_names[self.label]

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities[self.label])

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.class_names[i], float(self.probabilities[i])) for i in order]
