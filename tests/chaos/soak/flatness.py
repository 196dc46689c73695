"""Whether a figure grows: a line through its samples, and how much it rises from the first to the last.

The line has the median of the slopes between all pairs of samples (the Theil-Sen estimator): one slow window just
before the end does not look like growth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: The first part of a run is not judged: caches fill, results accumulate until they expire.
_WARM_UP_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure may grow by this share of its median over a run, and always by `amount`."""

    share: float
    amount: float


#: In the units of the samples: bytes, counts, milliseconds.
LIMITS: Mapping[str, Limit] = {
    "ingest RSS": Limit(0.1, 10e6),
    "consumer RSS": Limit(0.1, 10e6),
    "Redis RSS": Limit(0.2, 20e6),
    "ingest descriptors": Limit(0.1, 10),
    "consumer descriptors": Limit(0.1, 5),
    "ingest threads": Limit(0.1, 3),
    "consumer threads": Limit(0.1, 3),
    "keys": Limit(0.2, 100),
    "Redis memory": Limit(0.2, 5e6),
    "p99 ms": Limit(1.0, 50),
}


def growth(values: Sequence[float]) -> float:
    """By how much the fitted line rises over the judged part; 0 for fewer than three samples."""
    judged = np.asarray(values[int(len(values) * _WARM_UP_SHARE) :], dtype=float)
    judged = judged[~np.isnan(judged)]
    if len(judged) < 3:
        return 0.0
    first, second = np.triu_indices(len(judged), k=1)
    slopes = (judged[second] - judged[first]) / (second - first)
    return float(np.median(slopes) * (len(judged) - 1))


def grows(name: str, values: Sequence[float]) -> bool:
    """Whether a figure grows by more than it may."""
    limit = LIMITS[name]
    return growth(values) > max(limit.amount, limit.share * float(np.nanmedian(values)))
