"""From items to a batch as training sees it: whatever the kind of data, a pure function of content and place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from restune.data.augment import Augment, RandomKey, augment_pixels, random_crops
from restune.data.augment_series import change_time, change_values, drop_tokens
from restune.data.preprocess import ImagePreprocess, Preprocess
from restune.data.preprocess.video import VideoPreprocess


def needs_wholes(preprocess: Preprocess, augment: Augment) -> bool:
    """Whether training views are cut from whole items, rather than made of what inference sees."""
    if preprocess.kind == "image":
        return augment.crop_scale is not None
    return preprocess.kind in ("signal", "video")


def training_views(wholes: Sequence[Tensor], preprocess: Preprocess, augment: Augment, key: RandomKey) -> Tensor:
    """A batch of samples, changed at random.

    Args:
        wholes: one an item: whole where `needs_wholes`, else inference samples; of a clip, what `cut_clip` gave.
        key: of the batch.
    """
    if isinstance(preprocess, ImagePreprocess):
        if augment.crop_scale is not None:
            images = random_crops(wholes, augment, preprocess.crop, preprocess.interpolation, key)
        else:
            images = preprocess.stack(wholes)
        return augment_pixels(images, augment, key)
    if isinstance(preprocess, VideoPreprocess):
        return _clips(wholes, preprocess, augment, key)
    if preprocess.kind == "signal":
        series = [preprocess.view(one) for one in change_time(wholes, augment, key)]
        return change_values(preprocess.stack(series), augment, key)
    return preprocess.stack(drop_tokens(wholes, augment.drop_tokens, key))


def cut_clip(preprocess: VideoPreprocess, whole: Tensor | None, read: Callable[[], Any], share: float) -> Tensor:
    """uint8 ``[C, T, h, w]``: one clip of a video, from memory where it is there, else from its file.

    Args:
        whole: all frames, where they are kept.
        read: what else gives the video's place.
        share: where the clip starts, of all places where one can.
    """
    return preprocess.clip_of(read(), share) if whole is None else preprocess.window(whole, share)


def _clips(clips: Sequence[Tensor], preprocess: VideoPreprocess, augment: Augment, key: RandomKey) -> Tensor:
    """uint8 ``[N, C, T, crop, crop]``; all frames of a clip change alike."""
    framed = [clip.transpose(0, 1) for clip in clips]  # [T, C, h, w]
    if augment.crop_scale is not None:
        images = random_crops(framed, augment, preprocess.crop, preprocess.interpolation, key)
    else:
        images = torch.stack([preprocess.center(clip).transpose(0, 1) for clip in clips])
    return augment_pixels(images, augment, key).transpose(1, 2).contiguous()
