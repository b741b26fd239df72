"""What a file is that cannot be read as an image, told from its first bytes."""

from __future__ import annotations

from restune.data.tiff import read_layout

_CONVERT = "convert it to PNG or JPEG"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG that is damaged, or of a rare kind (12 bits, lossless)"),
    (b"\x89PNG", "a damaged PNG"),
    (b"GIF8", "a damaged GIF"),
    (b"BM", "a damaged BMP, or of a rare kind"),
    (b"8BPS", f"a Photoshop document; {_CONVERT}"),
    (b"gimp xcf", f"a GIMP document; {_CONVERT}"),
    (b"\x76\x2f\x31\x01", f"an OpenEXR image; {_CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL image; {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL image; {_CONVERT}"),
    (b"\0\0\1\0", f"a Windows icon; {_CONVERT}"),
    (b"FUJIFILMCCD-RAW", f"a camera's raw file; {_CONVERT}"),
    (b"SIMPLE  =", "a FITS file, not an image; save its values as arrays (.npz)"),
    (b"\x89HDF", "an HDF5 file, not an image; save its values as arrays (.npz)"),
    (b"\x93NUMPY", "a NumPy array, not an image file; give images and labels in one .npz"),
    (b"PK\3\4", "a ZIP archive, not an image; unpack it"),
    (b"\x1f\x8b", "a gzip file, not an image; unpack it"),
    (b"\xfd7zXZ", "an xz file, not an image; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive, not an image; unpack it"),
    (b"Rar!", "a RAR archive, not an image; unpack it"),
    (b"\x1aE\xdf\xa3", "a video (Matroska, WebM), not an image"),
    (b"OggS", "an Ogg file (sound or video), not an image"),
    (b"ID3", "an MP3, not an image"),
    (b"fLaC", "a FLAC sound, not an image"),
    (b"SQLite format 3", "an SQLite database, not an image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself; run `git lfs pull`"),
)
_RIFF = {b"WEBP": "a damaged WebP", b"AVI ": "a video (AVI), not an image", b"WAVE": "a .wav sound, not an image"}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2")


def is_heif(content: bytes) -> bool:
    """Whether this is a photo of the HEIF family, as iPhones write them."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS


def describe(content: bytes) -> str:
    """A few words for a message."""
    text = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return f"an SVG drawing, not pixels; {_CONVERT}"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not an image (it starts like HTML)"
    if text.startswith(b"%pdf"):
        return "a PDF, not an image"
    if text.startswith((b"%!ps", b"\xc5\xd0\xd3\xc6")):
        return "PostScript, a program, not an image"
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _describe_tiff(content)
    if content[4:8] == b"ftyp":
        avif = content[8:12] in (b"avif", b"avis")
        return "a damaged AVIF" if avif else "a damaged HEIC" if is_heif(content) else "a video (MP4), not an image"
    if content[128:132] == b"DICM":
        return f"a DICOM file; {_CONVERT}"
    if content.startswith(b"RIFF"):
        return _RIFF.get(content[8:12], "a RIFF file, not an image")
    return next((what for start, what in _STARTS if content.startswith(start)), "not an image in a known format")


def _describe_tiff(content: bytes) -> str:
    layout = read_layout(content)
    if layout is None:
        return "a damaged TIFF"
    what = f"a TIFF of {layout}"
    if layout.compression not in (1, 5, 8, 32946, 32773, 7, 2, 3, 4, 34925, 50000, 50001):
        what += f" with compression {layout.compression}"
    return (
        f"{what}, which cannot be read: grey of 8 to 32 bits and RGB of 8 or 16 bits can; "
        "convert it, or give arrays (.npz)"
    )
