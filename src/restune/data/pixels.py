"""Decode an image file or array to uint8 pixels with correct colours, in bounded memory; without torch."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from restune.core.allocator import give_back_freed_memory
from restune.core.errors import UserError
from restune.data import jpeg, png
from restune.data.dataset import MAX_BYTES
from restune.data.file_types import describe, is_heif
from restune.data.tiff import TiffLayout, read_layout

Result = TypeVar("Result")
Use = Callable[[NDArray[np.uint8], int], Result]
"""A function of an image's pixels, uint8 ``[C, H, W]`` as the file stores them, and their EXIF orientation."""

MAX_PIXELS = 89_478_485
"""Pillow's limit, a quarter of a gigabyte of RGB. ``$RESTUNE_MAX_PIXELS`` overrides it, up to twice this."""

_FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000")
    if name not in ("WEBP", "AVIF") or features.check(name.lower())
)
"""Formats detected by content. Not all of Pillow's: it passes EPS files to Ghostscript, which runs programs."""

_HALF = ("WEBP", "AVIF", "JPEG2000", "HEIF")
"""Formats with half the limit: their readers hold several copies of the image."""

_LARGE = 2**24
_large_images = threading.Lock()
"""Images of more than `_LARGE` pixels are decoded one at a time, so that memory does not grow with the threads."""

_STRIP = 2**22
"""Pixels converted at a time, to avoid a second copy of a large image."""

_MAX_SCANNED = 2_000_000_000
"""Limit of pixels times scans of a JPEG. A scan takes time proportional to the pixels, but only a few bytes."""


class DecodeError(ValueError):
    """The content is not a usable image; the text gives the reason."""


def with_pixels(content: bytes | NDArray[Any], channels: int, use: Use[Result]) -> Result:
    """Return ``use(pixels, orientation)`` of an image, before another large image is decoded.

    Transparency is blended with white; 16-bit greys are scaled, not clipped; the first frame or page is used. One
    channel is luma, three are RGB; other counts need an array with as many channels. A TIFF's float and integer values
    are scaled like an array's: see `_to_uint8`.

    Args:
        content: an encoded file, or an array.
        channels: of the result.
        use: takes the pixels, whose memory may be interleaved, ``[H, W, C]``; `upright` applies the orientation.

    Raises DecodeError; UserError if ``$RESTUNE_MAX_PIXELS`` is invalid.
    """
    if isinstance(content, np.ndarray):
        with _in_turn(content.size):
            return use(from_array(content, channels), 1)
    if channels not in (1, 3):
        raise DecodeError(f"an image file has 1 or 3 channels, the model wants {channels}")
    kind = "image"
    try:
        image = open_image(content)
        kind = image.format or kind
        with _in_turn(image.width * image.height):
            return _used(image, content, channels, use)
    except (DecodeError, UserError):
        raise
    except Exception as error:  # the readers raise arbitrary exceptions on a broken file
        raise DecodeError(f"a damaged {kind}: {first_line(error)}") from error


def decode_pixels(content: bytes | NDArray[Any], channels: int = 3) -> NDArray[np.uint8]:
    """Decode to upright uint8 ``[H, W, channels]``; see `with_pixels`. Raises DecodeError, UserError."""
    return with_pixels(
        content, channels, lambda pixels, turn: np.ascontiguousarray(upright(pixels, turn).transpose(1, 2, 0))
    )


def max_pixels() -> int:
    """Return the maximum pixels per image. Raises UserError if ``$RESTUNE_MAX_PIXELS`` is invalid."""
    named = os.environ.get("RESTUNE_MAX_PIXELS", "").strip()
    if not named:
        return MAX_PIXELS
    limit = int(named) if named.isascii() and named.isdigit() and len(named) < 20 else 0
    if not 1 <= limit <= 2 * MAX_PIXELS:
        raise UserError(
            f"{named[:40]!r} is not a valid limit of pixels per image",
            where="RESTUNE_MAX_PIXELS",
            fix=f"set it to a whole number up to {2 * MAX_PIXELS}, or unset it for {MAX_PIXELS}",
        )
    return limit


@contextmanager
def _in_turn(pixels: int) -> Iterator[None]:
    """Hold a lock while a large image is processed; small images do not wait."""
    if pixels <= _LARGE:
        yield
        return
    with _large_images:
        try:
            yield
        finally:
            give_back_freed_memory()


def _used(image: Image.Image, content: bytes, channels: int, use: Use[Result]) -> Result:
    """Decode and use the pixels. A separate function, so that they are freed before the next large image."""
    with closing(image):  # frees Pillow's pixels
        pixels = [_read(image, content, channels)]
        orientation = orientation_of(image)  # a PNG's may come after its pixels
    if image.width * image.height > _LARGE:  # the C library would keep them while the pixels are resized
        give_back_freed_memory()
    return use(pixels.pop(), orientation)  # the only reference: `use` can free the pixels that it has turned


def _read(image: Image.Image, content: bytes, channels: int) -> NDArray[np.uint8]:
    if image.format in ("JPEG", "MPO"):
        reject_many_scans(image.size, content)
        if image.mode in ("RGB", "L"):
            return _decode_jpeg(image, content, channels)
    return _from_pillow(image, channels, read_layout(content) if image.format == "TIFF" else None)


def open_image(content: bytes) -> Image.Image:
    """Open the image, reading only its header, and check its size."""
    if not content:
        raise DecodeError("the file is empty (0 bytes)")
    if len(content) > MAX_BYTES:
        raise DecodeError(f"the file has {len(content) / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}")
    most = max_pixels()
    try:
        image = _open_heif(content) if is_heif(content) else _open_any(content)
    except Image.DecompressionBombError as error:
        raise DecodeError(f"too many pixels (over {2 * MAX_PIXELS:,}, the most that any setting allows)") from error
    except (UnidentifiedImageError, SyntaxError, LookupError) as error:
        raise DecodeError(describe(content)) from error
    width, height = image.size
    half = image.format in _HALF
    if width * height > (most // 2 if half else most):
        limit = f"half of {most:,} for {image.format}" if half else f"{most:,}"
        raise DecodeError(
            f"{width}x{height} is too many pixels (the limit is {limit}; RESTUNE_MAX_PIXELS sets another)"
        )
    return image


def _open_any(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(png.without_metadata(content)), formats=_FORMATS)
    except UnidentifiedImageError:
        if not content.startswith(jpeg.START):
            raise
        return Image.open(io.BytesIO(jpeg.without_metadata(content)), formats=("JPEG",))


def _open_heif(content: bytes) -> Image.Image:
    """Open HEIC, reading only the container. AVIF in a container with the generic brand is left to Pillow."""
    try:
        return _open_any(content)
    except UnidentifiedImageError:
        pass
    try:
        import pillow_heif
    except ImportError as error:
        raise DecodeError(
            "an HEIC photo, which needs the extra heic: pip install 'restune[heic]' (or convert it to JPEG)"
        ) from error
    opener: Any = pillow_heif.HeifImageFile  # instead of registering it for the whole process
    image: Image.Image = opener(io.BytesIO(content))
    return image


def reject_many_scans(size: tuple[int, int], content: bytes) -> None:
    scans = content.count(b"\xff\xda")  # the scan marker, which cannot occur in compressed data
    if scans * size[0] * size[1] > _MAX_SCANNED:
        raise DecodeError(f"{scans} scans over {size[0]}x{size[1]} pixels, which no camera writes")


def _decode_jpeg(image: Image.Image, content: bytes, channels: int) -> NDArray[np.uint8]:
    """Decode the same pixels as Pillow in two thirds of its time: both use libjpeg-turbo."""
    buffer = np.empty((image.height, image.width, channels), np.uint8)  # the size in the header
    try:
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB" if channels == 3 else "GRAY", buffer=buffer)
    except ValueError:  # at any irregularity: Pillow separates harmless ones from truncated files
        if channels == 1:
            image.draft("L", image.size)  # the file's own luma, as above
        return _from_pillow(image, channels)
    return decoded.transpose(2, 0, 1)


_FLIPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}
"""Axes of ``[C, H, W]`` to flip by EXIF orientation, once rows and columns are swapped."""


def turn_of(orientation: int) -> tuple[bool, tuple[int, ...]]:
    """Return what makes ``[C, H, W]`` upright: whether rows and columns are swapped, and the axes flipped after it."""
    return 5 <= orientation <= 8, _FLIPS.get(orientation, ())


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return upright ``[C, H, W]``, a view."""
    swapped, flipped = turn_of(orientation)
    turned = pixels.transpose(0, 2, 1) if swapped else pixels
    return np.flip(turned, flipped) if flipped else turned


def _from_pillow(image: Image.Image, channels: int, layout: TiffLayout | None = None) -> NDArray[np.uint8]:
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, channels), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        converted = np.asarray(_eight_bit(strip, channels, layout))  # [H, W] or [H, W, C]
        pixels[top:bottom] = converted[..., None] if converted.ndim == 2 else converted
    return pixels.transpose(2, 0, 1)


def _eight_bit(image: Image.Image, channels: int, layout: TiffLayout | None) -> Image.Image:
    """Convert to RGB or luma without transparency."""
    is_signed = layout is not None and layout.sample_format == 2
    if image.mode in ("I", "F") or image.mode.startswith("I;16") or (is_signed and image.mode == "L"):
        image = Image.fromarray(_grey_levels(image, layout))
    elif image.mode == "La":  # premultiplied, which Pillow converts to no other mode
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    return image.convert("RGB" if channels == 3 else "L")


def _grey_levels(image: Image.Image, layout: TiffLayout | None) -> NDArray[np.uint8]:
    """Convert one channel of more than 8 bits, of floats or of signed integers to 8-bit grey levels."""
    array = np.asarray(image)
    if layout is None or (layout.sample_format == 1 and layout.bits == 16):
        levels = _to_uint8(array if image.mode == "F" else _sixteen_bit(array))
    elif layout.sample_format == 1 and layout.bits < 16:  # 12 bits
        most = 2**layout.bits - 1
        levels = ((array.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    elif layout.sample_format == 1 and layout.bits == 32:
        levels = _to_uint8(array.view(np.uint32))
    else:
        levels = _to_uint8(array.view(np.int8) if image.mode == "L" else array)
    # Pillow inverts no more than 8 bits where white is 0.
    return 255 - levels if layout is not None and layout.photometric == 0 else levels


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation; 1 if the metadata is broken, since the pixels may be intact."""
    try:
        value = image.getexif().get(0x0112, 1)
        return int(value)
    except Exception:  # Pillow's metadata readers raise arbitrary exceptions
        return 1


def from_array(array: NDArray[Any], channels: int) -> NDArray[np.uint8]:
    """Convert ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` to ``[channels, H, W]``, scaled as `_to_uint8` says.

    Raises DecodeError.
    """
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DecodeError(f"an image array has the shape [H, W] or [H, W, C], not {list(array.shape)}")
    pixels = _to_uint8(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif pixels.shape[2] not in (1, 3, 4, channels) and pixels.shape[0] in (1, 3, 4, channels):
        pixels = pixels.transpose(1, 2, 0)
    have = pixels.shape[2]
    if have == channels:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if have == 4 and channels in (1, 3):
        alpha = pixels[..., 3:].astype(np.float32) / np.float32(255)
        pixels = (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
        have = 3
    if have == 1 and channels == 3:
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    elif have == 3 and channels == 1:
        red, green, blue = np.moveaxis(pixels.astype(np.int32), 2, 0)
        luma = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16  # ITU-R 601-2, in Pillow's integers
        pixels = luma.astype(np.uint8)[:, :, None]
    elif have != channels:
        raise DecodeError(f"the array has {have} channels, the model wants {channels}")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _sixteen_bit(array: NDArray[Any]) -> NDArray[np.uint16]:
    """Pillow widens 16-bit greys to 32 bits in some formats."""
    if array.min() < 0 or array.max() > 65535:
        raise DecodeError(f"grey levels run from {array.min()} to {array.max()}, which is not a 16-bit image")
    return array.astype(np.uint16)


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale to grey levels 0 to 255 by dtype, never by an image's values: uint16 has maximum 65535, other integers
    255, floats 1."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype == np.uint16:
        wide = array.astype(np.uint32)
        return np.ascontiguousarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if array.dtype.kind not in "iuf":
        raise DecodeError(f"pixels of type {array.dtype} are not supported")
    floats = array.dtype.kind == "f"
    low, high, most = float(array.min()), float(array.max()), 1 if floats else 255
    if not (low >= 0 and high <= most):
        broken = int((~np.isfinite(array)).sum())
        what = f"{broken:,} of its values are NaN or infinite" if broken else f"pixels run from {low:g} to {high:g}"
        kind = "floats run from 0 to 1" if floats else "integers run from 0 to 255 (uint16: to 65535)"
        raise DecodeError(f"{what}; {kind} ({array.dtype}: scale it, or save it as uint8 or uint16)")
    scaled = (array.astype(np.float32) * 255).round() if floats else array
    return np.ascontiguousarray(scaled.astype(np.uint8))


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
