"""Whose files may decide what is run or measured: those that nobody but this user and root can have written."""

from __future__ import annotations

import os
import stat
import sys
from functools import cache
from pathlib import Path


def distrust(folder: Path) -> str:
    """Return why what lies in a folder must not be run; empty where it may be.

    The folder, and every folder on the way to it, belongs to this user or to root and can be written by nobody
    else. A sticky folder (`/tmp`) is fine on the way: what lies there can be replaced by its owner alone. So is a
    group that has one member. Links belong to this user or to root too. A folder that does not exist yet is judged
    by those above it.
    """
    if sys.platform == "win32":  # profiles are private there, and modes say nothing
        return ""
    lexical = Path(os.path.abspath(folder))  # noqa: PTH100 (resolve would follow the links that are judged here)
    try:
        real = lexical.resolve()
        for path in dict.fromkeys([real, *real.parents, lexical, *lexical.parents]):
            why = _why(path, end=path in (real, lexical))
            if why:
                return why
    except (OSError, RuntimeError) as problem:
        return f"{folder}: {getattr(problem, 'strerror', None) or problem}"
    return ""


def _why(path: Path, *, end: bool) -> str:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ""
    if found.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user"
    if stat.S_ISLNK(found.st_mode):
        return ""  # where it leads is judged on its own
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is no folder"
    shared = bool(found.st_mode & stat.S_IWOTH) or bool(found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid))
    if shared and (end or not found.st_mode & stat.S_ISVTX):
        return f"{path} can be written by other users"
    return ""


def is_ours(found: os.stat_result) -> bool:
    """Tell whether a file belongs to this user or to root, and nobody else can write to it."""
    if sys.platform == "win32":
        return True
    shared = bool(found.st_mode & stat.S_IWOTH) or bool(found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid))
    return stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid()) and not shared


def distrust_file(path: Path) -> str:
    """Return why a file that was found, not named, must not be followed; empty where it may be.

    It belongs to this user or to root, and only they can write to it or to its folder; a link is judged with what it
    leads to.
    """
    if sys.platform == "win32":
        return ""
    try:
        for place in dict.fromkeys([path, path.resolve()]):
            file, folder = place.lstat(), place.parent.stat()
            if file.st_uid not in (0, os.geteuid()):
                return f"{place} belongs to another user"
            if file.st_mode & stat.S_IWOTH and not stat.S_ISLNK(file.st_mode):
                return f"{place} can be written by every user"
            if folder.st_mode & stat.S_IWOTH:
                return f"every user can write to {place.parent}"
    except (OSError, RuntimeError) as problem:
        return f"{path}: {getattr(problem, 'strerror', None) or problem}"
    return ""


@cache
def _is_private(gid: int) -> bool:
    """Tell whether a group has this user (or, root's, nobody) as its only member, as Debian and others set it up."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return gid == os.geteuid()  # a container's user without a name
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = ""
    return group.gr_name in (name, "root") and set(group.gr_mem) <= {name, "root"}
