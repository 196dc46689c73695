"""How fast the model runs, and so how large a batch may be. Pure arithmetic."""

#: Weight of the newest batch in the running mean: about the last ten count.
_NEWEST = 0.2


class Pace:
    """The measured time of one image, and the batch size that stays within `max_batch_s`."""

    def __init__(self, *, max_batch: int, max_batch_s: float) -> None:
        self._max_batch = max_batch
        self._max_batch_s = max_batch_s
        self._image_s = 0.0

    def note(self, images: int, seconds: float) -> None:
        """One batch ran."""
        newest = seconds / images
        self._image_s = newest if self._image_s == 0.0 else (1 - _NEWEST) * self._image_s + _NEWEST * newest

    @property
    def images_per_s(self) -> float:
        """What this consumer can do, 0 before its first batch."""
        return 1 / self._image_s if self._image_s > 0 else 0.0

    @property
    def batch_size(self) -> int:
        """Entries to take next."""
        if self._image_s * self._max_batch <= self._max_batch_s:
            return self._max_batch
        return max(1, int(self._max_batch_s / self._image_s))
