"""PNG label images: the stored numbers, never a rendering of them.

Palette images give their indices, grey images their stored levels (2- and 4-bit ones unscaled), RGB images
their one value where all channels agree; with `--colors` it is the colours that count. The file is taken apart
here first: checksums are compared, text and profile chunks are left out, so that Pillow sees pixels only.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segcli.masks import colours
from segcli.masks.mask import Note
from segcli.masks.source import MOST_DEFLATE, Decoded, Room, Source, refuse, refuse_trailing, shown, size_text, trailing

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Head(NamedTuple):
    """The fields of a PNG header that vary."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: int


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Adam7: first column and row of each pass, and the steps to the next.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_AGAIN = "write or download it again"


def read(source: Source, room: Room, colors: str | None) -> Decoded:
    """Read a PNG image as an array of rows and columns."""
    name = source.name
    head, packed, palette, notes = _take_apart(source)
    depth, colour = head.depth, head.colour
    room.check(name, (head.height, head.width), (8 if colors else 1) * _CHANNELS[colour] * (2 if depth == 16 else 1))
    if depth == 16 and colour in (2, 6):
        text = "16-bit colour is not read"
        refuse(name, text, "save labels as 16-bit grey or 8-bit palette", "read.color")
    pixels = _inflate(name, head, packed)
    if depth == 16 and colour == 4:  # filters see bytes, so 8-bit RGBA is the same file; Pillow would drop the low byte
        raw = _pixels(name, head._replace(depth=8, colour=6), pixels).view(">u2").astype(np.uint16)
        array, alpha = raw[..., 0], raw[..., 1]
    else:
        raw = _pixels(name, head, pixels)
        alpha = raw[..., -1] if colour in (4, 6) else np.full((1, 1), 255, np.uint8)
        array = raw[..., :3] if colour in (2, 6) else raw[..., 0] if colour == 4 else raw
        if colour == 0 and depth in (2, 4):
            array = array // (85 if depth == 2 else 17)  # Pillow stretches them to 0..255
    if colour in (4, 6):
        check_opaque(name, alpha, 65535 if depth == 16 else 255)
    fields: dict[str, object] = {"bits": depth, "color_type": colour}
    explicit = colour == 3 or colors is not None
    if colour == 3 and not palette:
        refuse(name, "corrupt: a palette image without its palette", _AGAIN, "read.corrupt")
    array, said = meaning(name, array, palette if colour == 3 else b"", colors)
    notes += said
    return Decoded(np.ascontiguousarray(array), "PNG", None, None, notes, fields, explicit)


def look(source: Source) -> Decoded:
    """Return what the header declares, with an array that takes no memory."""
    start = source.read(len(_SIGNATURE) + 8)
    if start[-4:] != b"IHDR":
        refuse(source.name, "corrupt: an image without a header", _AGAIN, "read.corrupt")
    head = _check_head(source.name, source.read(min(int.from_bytes(start[-8:-4], "big"), 64)))
    array = np.broadcast_to(np.zeros((), np.uint16 if head.depth == 16 else np.uint8), (head.height, head.width))
    return Decoded(array, "PNG", header={"bits": head.depth, "color_type": head.colour})


def check_opaque(name: str, alpha: NDArray[Any], full: int) -> None:
    """Refuse an image with transparent pixels."""
    if clear := int(np.count_nonzero(alpha != full)):
        are = f"{clear} of {alpha.size} pixels {'is' if clear == 1 else 'are'} transparent"
        refuse(name, f"{are}, which says nothing about their label", "save it without an alpha channel", "read.alpha")


def meaning(name: str, array: NDArray[Any], palette: bytes, colors: str | None) -> tuple[NDArray[Any], list[Note]]:
    """Return the labels of grey levels, of colours (..., 3) or, with a `palette` (RGB), of its indices."""
    if colors is None:
        return (_one_channel(name, array) if array.ndim == 3 else array), []
    said: list[Note]
    if palette:
        labels, said = colours.decode_palette(name, array, palette, colors), []
    elif array.ndim == 3:
        labels, said = colours.decode(name, array, colors), []
    elif array.dtype == np.uint8 and colors != "packed":
        labels, said = colours.decode_grey(name, array, colors)
    else:
        text = f"{shown(name)}: a grey image: its values are the labels; --colors is not used"
        labels, said = array, [Note(text, code="colors.unused")]
    table = colours.colours(colors)
    return labels, [*(() if table is None else table.notes), *said]


def _take_apart(source: Source) -> tuple[Head, bytes, bytes, list[Note]]:
    """Walk over the chunks; return the header, the packed pixels, the palette (RGB), and notes."""
    name, said = source.name, shown(source.name)
    at = len(source.read(len(_SIGNATURE)))
    head: Head | None = None
    parts: list[bytes] = []
    notes: list[Note] = []
    packed, skipped, palette = 0, 0, b""
    while True:
        lead = source.read(8)
        at += 8
        if len(lead) < 8 or int.from_bytes(lead[:4], "big") + 4 > source.size - at:
            refuse(name, "truncated: the image has no end", _AGAIN, "read.truncated")
        length, word = int.from_bytes(lead[:4], "big"), lead[4:]
        at += length + 4
        if not word.isalpha() or (head is None) != (word == b"IHDR"):
            refuse(name, f"corrupt: chunk {ascii(word)[1:]} where {'IHDR' if head is None else 'image data'} should be",
                   _AGAIN, "read.corrupt")  # fmt: skip
        known = word in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf", b"acTL")
        if not known or (word in (b"eXIf", b"PLTE") and length > 1 << 16):
            if word[:1].isupper():
                refuse(name, f"corrupt: unknown critical chunk {ascii(word)[1:]}", _AGAIN, "read.corrupt")
            skipped += length
            refuse_trailing(name, skipped, trailing(0 if head is None else _raw_size(head)))
            source.skip(length + 4)
            continue
        if word == b"IDAT":
            packed += length
            if head is not None and packed > 2 * _raw_size(head) + (1 << 20):
                text = f"corrupt: more data than {head.width}x{head.height} pixels need"
                refuse(name, text, _AGAIN, "read.corrupt")
        data = source.read(length)
        if source.read(4) != zlib.crc32(word + data).to_bytes(4, "big"):
            refuse(name, f"corrupt: wrong checksum in chunk {word.decode()}", _AGAIN, "read.corrupt")
        if word == b"IHDR":
            head = _check_head(name, data)
        elif word == b"PLTE":
            if length % 3 or not 0 < length <= 768 or palette:
                refuse(name, "corrupt: a palette of impossible length", _AGAIN, "read.corrupt")
            palette = data
        elif word == b"IDAT":
            parts.append(data)
        elif word == b"acTL" and int.from_bytes(data[:4], "big") > 1:
            text = f"an animated PNG of {int.from_bytes(data[:4], 'big')} frames; which one is the mask?"
            refuse(name, text, "save the frame that is meant as a plain PNG", "read.animated")
        elif word == b"eXIf" and (turn := _orientation(data)) > 1:
            text = f"{said}: EXIF orientation {turn} is not applied; the pixel grid is used as stored"
            notes.append(Note(text, "warning", "read.orientation"))
        elif word == b"IEND":
            break
    if source.size > at:
        notes.append(
            Note(
                f"{said}: {size_text(source.size - at)} after the end of the image ignored", "warning", "read.trailing"
            )
        )
    if head is None:
        refuse(name, "corrupt: an image without a header", _AGAIN, "read.corrupt")
    if _raw_size(head) > MOST_DEFLATE * (packed + 64):
        text = f"claims {head.width}x{head.height} pixels, more than {size_text(packed)} of image data can hold"
        refuse(name, text, _AGAIN, "read.size")
    return head, b"".join(parts), palette, notes


def _check_head(name: str, data: bytes) -> Head:
    if len(data) != 13:
        refuse(name, "corrupt: its header has the wrong length", _AGAIN, "read.corrupt")
    width, height, depth, colour, method, filters, interlaced = struct.unpack(">IIBBBBB", data)
    sound = depth in _DEPTHS.get(colour, ()) and method == filters == 0 and interlaced <= 1
    if not (sound and 0 < width < 2**31 and 0 < height < 2**31):
        text = f"corrupt header: {width}x{height}, {depth} bits, colour type {colour}, interlace {interlaced}"
        refuse(name, text, _AGAIN, "read.corrupt")
    return Head(width, height, depth, colour, interlaced)


def _raw_size(head: Head) -> int:
    """Return the exact size of the filtered rows, unpacked."""
    bits = head.depth * _CHANNELS[head.colour]
    total = 0
    for left, top, right, down in _PASSES if head.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(head.width - left) // right), -(-(head.height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return total


def _inflate(name: str, head: Head, packed: bytes) -> bytes:
    """Unpack the filtered rows and check that they are all there: Pillow makes missing ones black in silence."""
    need = _raw_size(head)
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(packed, need)
        while not stream.eof and (stream.unconsumed_tail or len(rows) < need):
            more = stream.decompress(stream.unconsumed_tail, max(need - len(rows), 1))
            if len(rows) == need and more:
                refuse(name, f"corrupt: more data than {head.width}x{head.height} pixels need", _AGAIN, "read.corrupt")
            if not more and not stream.unconsumed_tail:
                break
            rows += more
    except zlib.error as error:
        refuse(name, f"corrupt image data ({error})", _AGAIN, "read.corrupt")
    if len(rows) < need or not stream.eof:
        text = f"truncated: {len(rows)} of {need} bytes of image data" if len(rows) < need else "truncated image data"
        refuse(name, text, _AGAIN, "read.truncated")
    return rows


def _orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 when there is none."""
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for entry in range(min(count, 256)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", data, at + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _pixels(name: str, head: Head, rows: bytes) -> NDArray[Any]:
    """Let Pillow undo filters and interlacing of a file that holds nothing but head and pixels."""
    from PIL.PngImagePlugin import PngImageFile

    def chunk(word: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + word + data + zlib.crc32(word + data).to_bytes(4, "big")

    ihdr = struct.pack(">IIBBBBB", head.width, head.height, head.depth, head.colour, 0, 0, head.interlaced)
    file = io.BytesIO(_SIGNATURE + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b""))
    try:
        # not Image.open: the limits it sets on pixels are global, and the size has been checked
        with warnings.catch_warnings(), PngImageFile(file) as image:
            warnings.simplefilter("ignore")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        refuse(name, f"corrupt image data ({shown(str(error))[:80]})", _AGAIN, "read.corrupt")


def _one_channel(name: str, array: NDArray[Any]) -> NDArray[Any]:
    first = array[..., 0]
    differ = (first != array[..., 1]) | (first != array[..., 2])
    if count := int(np.count_nonzero(differ)):
        rgb = tuple(int(v) for v in array[differ][0])
        text = f"a colour image: {count} of {differ.size} pixels are not grey, first rgb{rgb}"
        refuse(name, text, colours.HINT, "read.color")
    return np.asarray(first)
