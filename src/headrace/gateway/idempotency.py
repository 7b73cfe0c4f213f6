"""Idempotency keys: the first answer, kept with the rows it speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from xxhash import xxh3_128_hexdigest

from headrace.core.errors import DataError

MAX_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class Key:
    """A client's name for one request, and what the request was.

    Attributes:
        name: Where the answer is stored; the same key on another path is another request.
        digest: Of the body; a repeated key with another body is a conflict.
    """

    name: str
    digest: str

    @classmethod
    def of(cls, method: str, path: str, key: str, body: bytes) -> Key:
        """Return the key of a request.

        Raises:
            DataError: The key is empty or longer than 255 characters.
        """
        if not 0 < len(key) <= MAX_LENGTH:
            raise DataError(
                f"an Idempotency-Key has 1 to {MAX_LENGTH} characters", hint="e.g. a UUID"
            )
        return cls(f"idempotency:{method} {path}:{key}", xxh3_128_hexdigest(body))


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it lies in the log."""

    digest: str
    status: int
    body: bytes

    def encode(self) -> bytes:
        """Return it as bytes: a line of text, then the body."""
        return f"{self.digest} {self.status}\n".encode() + self.body

    @classmethod
    def decode(cls, value: bytes) -> Stored:
        """Read what `encode` wrote."""
        head, _, body = value.partition(b"\n")
        digest, status = head.decode().split(" ")
        return cls(digest, int(status), body)
