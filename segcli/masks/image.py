"""PNG label images: the stored numbers, never a rendering of them.

Palette images give their indices, grey images their stored levels (2- and 4-bit ones unscaled), RGB images
their one value where all channels agree or what `--colors` makes of them. The file is taken apart here
first: checksums are compared, text and profile chunks are left out, so that Pillow sees pixels only.
"""

from __future__ import annotations

import csv
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from segcli.errors import InputError
from segcli.masks.arrays import smallest_integer
from segcli.masks.mask import Note
from segcli.masks.readers import MOST_DEFLATE, Decoded, Room, Source, refuse, shown, size_text

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
_COLOURS_HINT = "--colors FILE.csv (label,r,g,b), voc or packed (R + 256 G + 65536 B)"
_AGAIN = "write or download it again"
_MOST_CSV = 1 << 20


def read(source: Source, room: Room, colors: str | None) -> Decoded:
    """Read a PNG image as an array of rows and columns."""
    name = source.name
    head, packed, notes = _take_apart(source)
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
    if colour in (4, 6) and (clear := int(np.count_nonzero(alpha != (65535 if depth == 16 else 255)))):
        text = f"{clear} of {alpha.size} pixels are transparent, which says nothing about their label"
        refuse(name, text, "save it without an alpha channel", "read.alpha")
    fields: dict[str, object] = {"bits": depth, "color_type": colour}
    explicit = colour == 3 or colors is not None
    if colors is not None and colour not in (2, 6):
        what = "palette image: its indices" if colour == 3 else "grey image: its values"
        notes.append(Note(f"{shown(name)}: a {what} are the labels; --colors is not used", code="read.colors"))
    elif colors is not None:
        array = _decode_colours(name, array, colors)
    elif array.ndim == 3:
        array = _one_channel(name, array)
    return Decoded(np.ascontiguousarray(array), "PNG", None, None, notes, fields, explicit)


def _take_apart(source: Source) -> tuple[Head, bytes, list[Note]]:
    """Walk over the chunks; return the header, the packed pixels, and notes."""
    name, said = source.name, shown(source.name)
    at = len(source.read(len(_SIGNATURE)))
    head: Head | None = None
    parts: list[bytes] = []
    notes: list[Note] = []
    packed = 0
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
        if word not in (b"IHDR", b"IDAT", b"IEND", b"eXIf", b"acTL") or (word == b"eXIf" and length > 1 << 16):
            if word[:1].isupper() and word != b"PLTE":
                refuse(name, f"corrupt: unknown critical chunk {ascii(word)[1:]}", _AGAIN, "read.corrupt")
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
    return head, b"".join(parts), notes


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
        refuse(name, text, _COLOURS_HINT, "read.color")
    return np.asarray(first)


def _decode_colours(name: str, array: NDArray[Any], colors: str) -> NDArray[Any]:
    """Turn colours into labels."""
    if colors == "packed":
        wide = array.astype(np.int32)
        return np.asarray(wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2])
    if array.dtype != np.uint8:
        refuse(name, "--colors needs an 8-bit image", "leave it out for 16-bit grey", "read.color")
    table = _voc() if colors == "voc" else _read_csv(colors)
    wide = array.astype(np.int32)
    code = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    known = np.array(sorted(table), np.int32)
    labels = np.array([table[int(c)] for c in known], np.int64)
    place = np.minimum(np.searchsorted(known, code), known.size - 1)
    unknown = known[place] != code
    if unknown.any():
        codes, counts = np.unique(code[unknown], return_counts=True)
        most = int(codes[np.argmax(counts)])
        rgb = (most >> 16, most >> 8 & 255, most & 255)
        more = f" and {codes.size - 1} more colours" if codes.size > 1 else ""
        text = f"colour rgb{rgb} ({int(counts.max())} pixels){more} not in --colors {shown(colors)}"
        refuse(name, text, "add it to the table; smooth edges mean the image was resized or JPEG", "read.color")
    return np.asarray(labels.astype(smallest_integer(int(labels.min()), int(labels.max())))[place])


def _voc() -> dict[int, int]:
    """Return the Pascal VOC colormap: the bits of a label, dealt to R, G and B from the top."""
    table = {}
    for label in range(256):
        rgb = [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        table[rgb[0] << 16 | rgb[1] << 8 | rgb[2]] = label
    return table


def _read_csv(path: str) -> dict[int, int]:
    """Read label,r,g,b[,name] lines; a first line without numbers is a header."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read(_MOST_CSV + 1)
    except (OSError, ValueError) as error:
        _refuse_table(path, getattr(error, "strerror", None) or "not a text file in UTF-8", "read")
    if len(text) > _MOST_CSV:
        _refuse_table(path, f"larger than {size_text(_MOST_CSV)}", "read")
    table: dict[int, int] = {}
    first = True
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error as error:
        _refuse_table(path, f"not a CSV file ({shown(str(error))})", "read")
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        numbers = _numbers(cells)
        if numbers is None and not (first and not any(cell.lstrip("-").isdigit() for cell in cells[:4])):
            line = shown(",".join(cells))[:60]
            _refuse_table(path, f"line {number} ({line}) is not label,r,g,b[,name] with r, g, b in 0..255", "line")
        first = False
        if numbers is not None:
            label, red, green, blue = numbers
            if table.setdefault(red << 16 | green << 8 | blue, label) != label:
                text = f"line {number} gives rgb({red}, {green}, {blue}) a second label, {label}"
                _refuse_table(path, text, "line")
    if not table:
        _refuse_table(path, "no colours in it", "line")
    return table


def _numbers(cells: list[str]) -> tuple[int, int, int, int] | None:
    if len(cells) not in {4, 5} or not all(cell.removeprefix("-").isdecimal() for cell in cells[:4]):
        return None
    if max(len(cell) for cell in cells[:4]) > 11:
        return None
    label, red, green, blue = (int(cell) for cell in cells[:4])
    inside = all(0 <= c <= 255 for c in (red, green, blue)) and abs(label) < 2**31
    return (label, red, green, blue) if inside else None


def _refuse_table(path: str, text: str, word: str) -> NoReturn:
    hint = f"one colour a line, as in 1,255,0,0,liver; or {_COLOURS_HINT}"
    raise InputError(f"--colors {shown(path)}: {text}.", hint=hint, code=f"colors.{word}") from None
