"""Saying what a file is when it is not what was asked for."""

_MAGIC = (
    (b"PAR1", "parquet with a damaged or missing end (a download cut short?)"),
    (b"PARE", "encrypted parquet"),
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself (run `git lfs pull`)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"ARROW1", "an Arrow IPC file"),
    (b"SQLite format", "an SQLite database"),
    (b"%PDF", "a PDF"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
)


def looks_like(head: bytes) -> str:
    """Say in words what data with these first bytes (some hundred are enough) looks like."""
    if not head:
        return "an empty file"
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[8:10] == b'{"':
        return "a safetensors file"
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str:
    text = head.decode("utf-8", errors="replace")
    strange = sum(not (letter.isprintable() or letter in "\r\n\t") or letter == "\ufffd" for letter in text)
    if strange > max(1, len(text) // 50):
        return "binary data of no known kind"
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page (a download that met a login page?)"
    if start.startswith(("{", "[")):
        return "JSON text"
    first_line = start.splitlines()[0] if start else ""
    return "CSV text" if "," in first_line else "text"
