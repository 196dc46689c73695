"""Settings of ingest's workers: what they receive and decode, and how much memory and time that may take."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from stream.host.cpu import usable_cores
from stream.settings.outbound import Seconds


class UploadSettings(BaseModel):
    """The workers of ingest, and their limits for uploads and for decoding."""

    workers: int = Field(0, ge=0, le=256, description="ingest processes that share the port. 0: one per usable core")
    decode_threads: int = Field(
        0, ge=0, le=256, description="threads that decode images, per worker. 0: cores / workers"
    )
    max_upload_bytes: int = Field(20 * 2**20, ge=1, description="largest request body, in bytes")
    max_upload_memory: int = Field(
        256 * 2**20,
        ge=1,
        description="most bytes of memory for all request bodies that are arriving, over all workers. If the default "
        "leaves a worker too little for one of the largest size, it gets enough for that",
    )
    max_images: int = Field(32, ge=1, le=1024, description="most images in one request")
    max_pixels: int = Field(50_000_000, ge=1, description="largest image, width times height")
    max_decode_memory: int = Field(
        256 * 2**20, ge=32 * 2**20, description="most bytes of memory that the decoding of one image may take"
    )
    max_decode_s: Seconds = Field(2.0, description="most CPU time that the decoding of one image may take")
    upload_timeout_s: Seconds = Field(30.0, description="longest time for the body of a request to arrive")

    @property
    def worker_count(self) -> int:
        """How many ingest processes share the port."""
        return self.workers or usable_cores()

    @property
    def upload_memory(self) -> int:
        """Bytes of memory for the request bodies that are arriving at one worker."""
        return max(self.max_upload_memory // self.worker_count, self._memory_for_one_upload)

    @property
    def _memory_for_one_upload(self) -> int:
        """Bytes for a body of the largest size, with the buffers that it passes through (ingest/upload_memory.py)."""
        return self.max_upload_bytes + self.max_upload_bytes // 8 + 2**19

    @model_validator(mode="after")
    def _each_worker_can_hold_an_upload(self) -> Self:
        needed = self.worker_count * self._memory_for_one_upload
        if "max_upload_memory" in self.model_fields_set and self.max_upload_memory < needed:
            raise ValueError(
                f"max_upload_memory ({self.max_upload_memory}) must be at least {needed}: each of {self.worker_count} "
                f"workers must be able to receive one body of max_upload_bytes ({self.max_upload_bytes})"
            )
        return self
