"""Arrow IPC streams: the log's own format, and the fastest one to send to a gateway."""

from headrace.core.rows import decode_rows, encode_rows

__all__ = ["decode_rows", "encode_rows"]
