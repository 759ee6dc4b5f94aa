"""Names of image files and of folders that hold none, in image folders and archives."""

from __future__ import annotations

from .other_formats import OTHER_SUFFIXES

EXTENSIONS = (b".bmp", b".gif", b".jpeg", b".jpg", b".png", b".jfif", b".jpe", *OTHER_SUFFIXES)
UNREAD = tuple(b".arw .cr2 .cr3 .dng .exr .hdr .jxl .mrxs .ndpi .nef .psd .scn .svs".split())
"""Suffixes of images that are not read; the user is told about them."""
SYSTEM_FOLDERS = frozenset(
    {
        *(b"@eadir", b"#recycle", b"#snapshot", b"@recycle", b"@recently-snapshot", b"@tmp", b"~snapshot", b"__macosx"),
        *(b"$recycle.bin", b"system volume information", b"found.000", b"lost+found", b"__pycache__"),
        *(b"network trash folder", b"temporary items", b"_gsdata_", b"$sysreset"),
    }
)
"""Names, in lower case, of folders that systems and storage devices make; they hold thumbnails and deleted files."""
