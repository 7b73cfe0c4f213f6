from headrace.bench.alerts_client import Receiver


def request(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_requests_are_taken_whole_however_they_arrive() -> None:
    taken: list[bytes] = []
    receiver = Receiver(taken.append)
    stream = b"".join(request(body) for body in (b'{"alerts":[]}', b"", b"x" * 5_000))

    for start in range(0, len(stream), 7):
        receiver.data_received(stream[start : start + 7])

    assert taken == [b'{"alerts":[]}', b"", b"x" * 5_000]
