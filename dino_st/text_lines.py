"""The lines of a text file, and what is no text file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dino_st.errors import InputError

_NO_TEXT = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip (perhaps .docx or .xlsx)",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"%PDF-": "PDF",
    b"PAR1": "parquet",
}
"""How files begin that would be read as rubbish."""


def text_lines(content: Iterable[bytes]) -> Iterator[str]:
    """Decodes lines that end in LF, CR LF or CR alone; `str.splitlines` also cuts at characters inside sentences.

    Args:
        content: A binary stream, or its lines by LF.

    Yields:
        Lines without their ends.

    Raises:
        InputError: If it is no text, or not UTF-8.
    """
    offset = 0
    for number, line in enumerate(content, start=1):
        kind = next((kind for magic, kind in _NO_TEXT.items() if number == 1 and line.startswith(magic)), None)
        if kind is not None:
            raise InputError(f"this is a {kind} file, not text; take the sentences out of it first, one a line")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
                encoding, byte = "utf-32" if b"\x00\x00" in line[:4] else "utf-16", line[:1]
            else:
                encoding, byte = "latin1", line[error.start : error.start + 1]
            raise InputError(
                f"line {number} is not UTF-8 (byte {byte!r} at offset {offset + error.start}); "
                f"convert the file first, for example: iconv -f {encoding} -t utf-8 FILE > FILE.utf8"
            ) from None
        offset += len(line)
        yield from text.removesuffix("\n").rstrip("\r").split("\r")
