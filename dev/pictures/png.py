"""Makes the pictures of Chromium smaller: 256 colours, each a byte, in place of any colour in three."""

import struct
import zlib
from collections import Counter

from dev.command import Failure

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS_MAX = 256
TRUECOLOUR, PALETTE = 2, 3


def with_palette(picture):
    """The same picture with its commonest colours; any other colour becomes the nearest of these."""
    width, height, pixels = read(picture)
    seen = Counter(pixels)
    palette = [colour for colour, _ in seen.most_common(COLOURS_MAX)]
    places = {colour: place for place, colour in enumerate(palette)}
    for colour in seen:
        if colour not in places:
            places[colour] = nearest(colour, palette)
    indexes = bytes(places[colour] for colour in pixels)
    rows = b"".join(b"\0" + indexes[begin : begin + width] for begin in range(0, len(indexes), width))
    return (
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, PALETTE, 0, 0, 0))
        + chunk(b"PLTE", b"".join(bytes(colour) for colour in palette))
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def nearest(colour, palette):
    return min(
        range(len(palette)),
        key=lambda place: sum((one - other) ** 2 for one, other in zip(colour, palette[place], strict=True)),
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read(picture):
    """The width, the height and the pixels of a PNG as Chromium writes it: 8 bits, three colours, not interlaced."""
    width, height, *kind = struct.unpack(">IIBBBBB", picture[16:29])
    if kind != [8, TRUECOLOUR, 0, 0, 0]:
        raise Failure(f"chromium wrote a PNG of another kind: {kind}")
    data, at = b"", len(SIGNATURE)
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        if picture[at + 4 : at + 8] == b"IDAT":
            data += picture[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(data), 3 * width
    pixels, above = [], bytearray(stride)
    for begin in range(0, len(raw), stride + 1):
        row = unfilter(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), above)
        pixels += zip(row[0::3], row[1::3], row[2::3], strict=True)
        above = row
    return width, height, pixels


def unfilter(kind, row, above):
    """Undoes what PNG does to a row for compression: each byte is a difference to those before it and above it."""
    for place in range(len(row)) if kind else ():
        left = row[place - 3] if place >= 3 else 0
        up = above[place]
        if kind == 1:
            row[place] = row[place] + left & 255
        elif kind == 2:
            row[place] = row[place] + up & 255
        elif kind == 3:
            row[place] = row[place] + (left + up) // 2 & 255
        else:
            corner = above[place - 3] if place >= 3 else 0
            estimate = left + up - corner
            best = min((left, up, corner), key=lambda near: abs(estimate - near))
            row[place] = row[place] + best & 255
    return row
