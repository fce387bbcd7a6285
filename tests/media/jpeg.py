"""A reader of JPEG files that shares no code with the one under test: it walks segments and knows nothing of pixels."""

from typing import NamedTuple

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_RESTARTS = range(0xD0, 0xD8)
# Tables, frame headers (baseline, extended, progressive), restart interval, scan: what pixels are made of.
_PIXELS = {0xDB, 0xC4, 0xC0, 0xC1, 0xC2, 0xDD, _SOS}


class Segment(NamedTuple):
    marker: int
    payload: bytes


def segments(data: bytes) -> list[Segment]:
    """Every segment from start to end of image; anything that is not one is an error, bytes after the end too."""
    assert data[:2] == bytes([0xFF, _SOI])
    found: list[Segment] = []
    at = 2
    while True:
        assert data[at] == 0xFF, f"no marker at {at}"
        marker = data[at + 1]
        at += 2
        if marker == _EOI:
            assert at == len(data), f"{len(data) - at} bytes after the end"
            return found
        length = int.from_bytes(data[at : at + 2], "big")
        found.append(Segment(marker, data[at + 2 : at + length]))
        at += length
        if marker == _SOS:
            at = _after_scan(data, at)


def assert_bare(data: bytes) -> None:
    """Nothing but pixels: no EXIF, XMP, IPTC, ICC, comment, thumbnail or tail."""
    for marker, payload in segments(data):
        if marker == _APP0:
            assert payload[:5] == b"JFIF\0"
            assert len(payload) == 14
            assert payload[12:] == b"\0\0"
        else:
            assert marker in _PIXELS, f"segment {marker:#x}"


def assemble(parts: list[Segment | bytes]) -> bytes:
    """A file from segments and raw scan data."""
    return b"".join(
        part
        if isinstance(part, bytes)
        else bytes([0xFF, part.marker]) + (len(part.payload) + 2).to_bytes(2, "big") + part.payload
        for part in parts
    )


def scans(data: bytes) -> tuple[bytes, list[bytes]]:
    """A progressive file as what stands before its first scan, and each scan with its tables and data."""
    found: list[bytes] = []
    start: int | None = None
    at, head_end = 2, 0
    while data[at + 1] != _EOI:
        begins = at
        marker = data[at + 1]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC4, _SOS) and start is None:
            start = begins
            head_end = head_end or begins
        if marker == _SOS:
            at = _after_scan(data, at)
            found.append(data[start:at])
            start = None
    return data[:head_end], found


def _after_scan(data: bytes, at: int) -> int:
    while not (data[at] == 0xFF and data[at + 1] != 0 and data[at + 1] not in _RESTARTS):
        at += 1
    return at
