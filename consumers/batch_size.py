"""How many images run together: how many a consumer takes, and how ONNX Runtime runs those that it took.

1. `BatchSizer.batch_size` is how many entries the fetcher takes. It stays within `max_batch_s` at the measured speed.
   While bulk images run, fetcher.py shares it among partitions. batch_reader.py mixes the classes in it.
2. On a provider that tunes itself for each shape, a batch is padded to one of `padded_sizes`.
3. On the CPU, a batch is split into `ChunkSizer.chunks`, which run in parallel.
"""

import math

#: Weight of the newest batch in the running mean: about the last ten count.
_NEWEST = 0.2

#: Images in a chunk, which one thread of the CPU runs. More only take memory, 10 MB each in ResNet50, and time where
#: the values between two layers no longer fit the caches: with 2 threads and 2 MB of L2, 32 at once take as long
#: as 8 chunks of 4 in ResNet50, and 1.2 times as long in EfficientNet-Lite0 (AMD EPYC, fp32 and int8).
_CHUNK = 2

#: A batch is split only if this share of all threads gets a chunk in every round. Three images on two threads take 0.8
#: (ResNet50) to 0.9 of the time (EfficientNet-Lite0, int8) unsplit; with 5, one left over, both take the same time.
_BUSY = 0.8

#: Images that together take no longer than this run at once, however many they are: the call itself costs time, and in
#: so short a time no network writes more than about 20 MB between its layers.
_SHORT_S = 0.002


class BatchSizer:
    """The measured time of one image, and the batch size that stays within `max_batch_s`."""

    def __init__(self, *, max_batch: int, max_batch_s: float) -> None:
        self._max_batch = max_batch
        self._max_batch_s = max_batch_s
        self._image_s = 0.0

    def add_run(self, images: int, seconds: float) -> None:
        """Take one run of the model into the mean."""
        newest = seconds / images
        self._image_s = newest if self._image_s == 0.0 else (1 - _NEWEST) * self._image_s + _NEWEST * newest

    def restart(self, image_s: float) -> None:
        """Forget the runs of another model; an image of this one takes `image_s`."""
        self._image_s = image_s

    @property
    def image_s(self) -> float:
        """The time of one image in a batch, in seconds; 0 before the first run."""
        return self._image_s

    @property
    def images_per_s(self) -> float:
        """Images a second that this consumer can classify; 0 before the first run."""
        return 1 / self._image_s if self._image_s > 0 else 0.0

    def images_within(self, seconds: float) -> int:
        """Images that one batch can hold if it should take no longer than this."""
        if self._image_s * self._max_batch <= seconds:
            return self._max_batch
        return max(1, int(seconds / self._image_s))

    @property
    def batch_size(self) -> int:
        """The number of entries to take next."""
        return self.images_within(self._max_batch_s)


def padded_sizes(max_batch: int) -> tuple[int, ...]:
    """The sizes that batches are padded to: the powers of two below `max_batch`, and `max_batch` itself."""
    powers = (1 << exponent for exponent in range(max_batch.bit_length()))
    return (*(size for size in powers if size < max_batch), max_batch)


class ChunkSizer:
    """Splits batches among the threads of a session on the CPU."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._image_s = math.inf

    def add_run(self, images: int, seconds: float) -> None:
        """Keep the shortest time of an image: other processes may take cores, but nothing makes a network faster."""
        self._image_s = min(self._image_s, seconds / images)

    def chunks(self, images: int) -> int:
        """The number of chunks for so many images: the same for each thread, so that all threads end together.

        1 where the images are so few that some threads would have none at the beginning or the end. All threads then
        share the work of each layer.
        """
        rounds = -(-images // self._threads)
        few = images < self._threads or images < _BUSY * rounds * self._threads
        if few or images * self._image_s <= _SHORT_S:
            return 1
        in_one_round = self._threads * max(_CHUNK, int(_SHORT_S / self._image_s))
        return self._threads * -(-images // in_one_round)
