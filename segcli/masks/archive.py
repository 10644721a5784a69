"""What is wrong with a ZIP archive: that its directory, local headers and members agree.

A reader of one member follows the directory alone and passes over damage everywhere else; the file is damaged all the
same, and whoever wrote, copied or edited it should know.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from segcli.wording import counted

#: What opening and reading a damaged archive raises.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error
)  # fmt: skip
#: The compression types that NumPy writes.
READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 20
_LOCAL, _END = b"PK\x03\x04", b"PK\x05\x06"
#: Bits that say how a member is read: encrypted, sizes behind the data, encrypted strongly, the name is UTF-8.
_ENCRYPTED, _BEHIND, _STRONG, _UTF8 = 1, 8, 64, 2048
#: The records of ZIP64 that may stand between the directory and its end.
_ZIP64 = 56 + 20
#: As many faults as a message names.
_NAMED = 3


def faults_of_members(file: BinaryIO, archive: zipfile.ZipFile) -> dict[str, str]:
    """Return what is wrong with the place, the local header and the uniqueness of members, by name."""
    members = sorted(archive.infolist(), key=lambda m: m.header_offset)
    ends = [*(m.header_offset for m in members[1:]), archive.start_dir]
    found: dict[str, str] = {}
    for member, end in zip(members, ends, strict=True):
        if fault := _fault(file, member, end):
            found.setdefault(member.filename, fault)
    for name, times in Counter(m.filename for m in members).items():
        if times > 1:
            found.setdefault(name, f"is there {times} times")
    return found


def _fault(file: BinaryIO, member: zipfile.ZipInfo, end: int) -> str:
    """Return where the local header of a member differs from the directory; `end` is where the next thing begins."""
    file.seek(max(member.header_offset, 0))
    head = file.read(30)
    if member.header_offset < 0 or len(head) < 30 or head[:4] != _LOCAL:
        return "has no local header"
    flags, method, crc, packed, size, name_length, extra_length = struct.unpack("<6xHH4xIIIHH", head)
    name, extra = file.read(name_length), file.read(extra_length)
    if name.decode("utf-8" if flags & _UTF8 else "cp437", "replace") != member.orig_filename:
        return "has another name in its local header"
    if method != member.compress_type:
        return "has another compression in its local header"
    if (flags ^ member.flag_bits) & (_ENCRYPTED | _BEHIND | _STRONG | _UTF8):
        return "has other flags in its local header"
    start = member.header_offset + 30 + name_length + extra_length
    stop = start + member.compress_size
    sizes = _sizes(size, packed, extra)
    if flags & _BEHIND:
        file.seek(stop)
        length = _descriptor(file.read(24), member)
        if not length:
            return "has another checksum or size behind its data"
        stop += length
    elif crc != member.CRC:
        return "has another checksum in its local header"
    elif sizes != (member.file_size, member.compress_size):
        return "has another size in its local header"
    if stop > end:
        return "overlaps what follows it"
    return f"is followed by {counted(end - stop, 'byte')} of no member" if stop < end else ""


def _sizes(size: int, packed: int, extra: bytes) -> tuple[int, int]:
    """Return the sizes of a local header, those of ZIP64 where it says so; -1 where its extra fields are cut."""
    at, most = 0, 0xFFFFFFFF
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if at + 4 + length > len(extra):
            return -1, -1
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            size = next(wide, size) if size == most else size
            packed = next(wide, packed) if packed == most else packed
        at += 4 + length
    return size, packed


def _descriptor(raw: bytes, member: zipfile.ZipInfo) -> int:
    """Return the length of the data descriptor, 0 where none that agrees with the directory is there."""
    for sign in (b"PK\x07\x08", b""):
        for wide in ("Q", "I"):
            try:
                wanted = sign + struct.pack(f"<I2{wide}", member.CRC, member.compress_size, member.file_size)
            except struct.error:  # too large for the narrow one
                continue
            if raw.startswith(wanted):
                return len(wanted)
    return 0


def faults_of_frame(file: BinaryIO, archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield what is wrong before the first member, with the end record, and after it."""
    members = archive.infolist()
    if first := min((m.header_offset for m in members), default=0):
        yield f"{counted(first, 'byte')} stand before its first member"
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, size - 22 - 0xFFFF))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        yield "its end record is damaged"
        return
    disk, first_disk, here, total, length, offset, comment = struct.unpack("<4H2IH", tail[at + 4 : at + 22])
    if {disk, first_disk} - {0, 0xFFFF}:
        yield "its end record speaks of several disks"
    if {here, total} - {len(members), 0xFFFF}:
        yield f"its end record speaks of {counted(total, 'member')}, its directory of {len(members)}"
    if offset not in (archive.start_dir, 0xFFFFFFFF):
        yield "its end record has another place of the directory"
    walked = _directory(file, archive)
    if begin + at - archive.start_dir - walked not in (0, _ZIP64) or length not in (walked, 0xFFFFFFFF):
        yield "its directory has another size than its end record says"
    if (after := len(tail) - at - 22 - comment) > 0:
        yield f"{counted(after, 'byte')} follow its end"
    elif after < 0:
        yield "its comment is cut"


def _directory(file: BinaryIO, archive: zipfile.ZipFile) -> int:
    """Return how many bytes the directory takes: `zipfile` reads on where a name or a comment is cut."""
    file.seek(archive.start_dir)
    for _ in archive.infolist():
        lengths = struct.unpack_from("<3H", file.read(46).ljust(46, b"\0"), 28)
        file.seek(sum(lengths), os.SEEK_CUR)
    return file.tell() - archive.start_dir


def checked_members(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo]) -> dict[str, str]:
    """Read members to their ends, where their checksums are compared; return what is wrong, by name."""
    found: dict[str, str] = {}
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            found[member.filename] = "is encrypted, its checksum cannot be compared"
            continue
        if member.compress_type not in READ:
            found[member.filename] = f"has compression type {member.compress_type}, which is not read"
            continue
        try:
            with archive.open(member) as stream:
                length = 0
                while part := stream.read(_CHUNK):
                    length += len(part)
            if length != member.file_size:
                found[member.filename] = "ends early"
        except ZIP_ERRORS:
            found[member.filename] = "has damaged data"
    return found


def listed(faults: list[str]) -> str:
    """Return the first of several faults, and how many more there are."""
    more = len(faults) - _NAMED
    return "; ".join(faults[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
