"""What the network sees of a series, against numpy and hand computation."""

from __future__ import annotations

import contextlib
import io
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import restune
from restune.data.decode import DecodeError
from restune.data.preprocess import preprocess_from_dict
from restune.data.preprocess.signal import SignalPreprocess, channel_statistics

RAW = SignalPreprocess(normalization="none")


def wav(samples, rate=8000):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, samples)
    return buffer.getvalue()


def test_each_series_and_channel_is_normalised():
    series = np.random.default_rng(0).normal(5, 3, (2, 50))
    series[1] = 7
    sample = SignalPreprocess(channels=2).apply(series)
    assert sample.dtype == torch.float32
    expected = (series[0] - series[0].mean()) / series[0].std()
    assert np.allclose(sample[0], expected, atol=1e-5)
    assert torch.equal(sample[1], torch.zeros(50))  # a constant one


def test_small_changes_on_a_high_level_are_no_constant():
    series = 1e4 + np.array([0, 1, 0, 1], np.float32)
    assert np.allclose(SignalPreprocess().apply(series), [[-1, 1, -1, 1]], atol=1e-4)
    assert torch.equal(SignalPreprocess().apply(np.full(9, 0.1, np.float32)), torch.zeros(1, 9))
    assert np.allclose(SignalPreprocess().apply(series * 1e-20 - 1e-16), [[-1, 1, -1, 1]], atol=1e-4)


def test_channels_are_normalised_by_what_training_data_measured():
    random = np.random.default_rng(1)
    wholes = [RAW.with_channels(2).whole(random.normal([[3], [-100]], [[2], [0.5]], (2, n))) for n in (5, 40, 17)]
    mean, std = channel_statistics(wholes)
    together = torch.cat(wholes, 1).numpy().astype(np.float64)
    assert np.allclose(mean, together.mean(1))
    assert np.allclose(std, together.std(1))
    preprocess = SignalPreprocess(channels=2, normalization="channel", mean=mean, std=std)
    expected = (wholes[0].numpy() - together.mean(1, keepdims=True)) / together.std(1, keepdims=True)
    assert np.allclose(preprocess.view(wholes[0]), expected, atol=1e-4)
    with pytest.raises(restune.UserError, match="no series"):
        channel_statistics([])


def test_missing_values_lie_on_a_line_between_their_neighbours():
    nan = np.nan
    whole = RAW.with_channels(2).whole(np.array([[nan, 1, nan, nan, 4, nan], [0, 1, 2, 3, 4, 5]]))
    assert whole.tolist() == [[1, 1, 2, 3, 4, 4], [0, 1, 2, 3, 4, 5]]


def test_what_is_too_long_is_cut_at_the_centre():
    short = replace(RAW, length=3)
    assert short.apply(np.arange(7)).tolist() == [[2, 3, 4]]
    assert short.apply(np.arange(2)).tolist() == [[0, 1]]
    assert short.whole(np.arange(7)).shape == (1, 7)


def test_padding_is_masked():
    batch = RAW.stack([RAW.apply(np.arange(3) + 1), RAW.apply(np.arange(2) + 1)])
    assert torch.isnan(batch[1, 0, 2])
    x, mask = RAW.inputs(batch)
    assert x.tolist() == [[[1, 2, 3]], [[1, 2, 0]]]
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    x, mask = RAW.inputs(RAW.stack([RAW.apply(np.arange(3))] * 2))
    assert mask is None
    assert x.shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([1, np.inf]), "infinite"),
        (np.array([1e300, 1.0]), "infinite"),
        (np.array([np.nan, np.nan]), "are missing"),
        (np.zeros((2, 4)), "2 channels, the model expects 1"),
        (np.zeros((1, 0)), r"\[C, L\]"),
        (np.zeros((1, 1, 1)), r"\[C, L\]"),
        (np.array(["a"]), "not numbers"),
        (np.array([1j]), "not numbers"),
        (np.broadcast_to(np.float32(0), (1, 10_000_001)), "too long"),
        (b"", "empty"),
        (b"garbage", r"not a \.wav"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no recording"),
    ],
)
def test_broken_series(content, message):
    with pytest.raises(DecodeError, match=message):
        RAW.apply(content)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 16384, -32768], np.int16), [0, 0.5, -1]),
        (np.array([128, 192, 0], np.uint8), [0, 0.5, -1]),
        (np.array([0, 2**30, -(2**31)], np.int32), [0, 0.5, -1]),
        (np.array([0, 0.5, -1], np.float32), [0, 0.5, -1]),
        (np.array([0, 0.5, -1], np.float64), [0, 0.5, -1]),
        (np.array([[0, 0], [16384, 16384], [-32768, 0]], np.int16), [0, 0.5, -0.5]),
    ],
)
def test_full_scale_is_one_and_stereo_is_mixed(samples, expected):
    assert RAW.apply(wav(samples)).tolist() == [expected]


def test_24_bits():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", ""))
        file.writeframes(b"\x00\x00\x00" + b"\x00\x00\x40" + b"\x00\x00\x80")
    assert RAW.apply(buffer.getvalue()).tolist() == [[0, 0.5, -1]]


def test_recordings_are_resampled():
    time = np.arange(44100) / 44100
    tone = (np.sin(2 * np.pi * 440 * time) * 20000).astype(np.int16)
    sample = replace(RAW, rate=16000).apply(wav(tone, 44100))
    assert sample.shape == (1, 16000)
    spectrum = np.abs(np.fft.rfft(sample[0].numpy()))
    assert int(spectrum.argmax()) == 440
    assert RAW.apply(wav(tone, 44100)).shape == (1, 44100)


def test_broken_recordings():
    whole = wav(np.arange(1000, dtype=np.int16))
    with pytest.raises(DecodeError, match="ends inside"):
        RAW.apply(whole[:500])
    for cut in range(0, 44, 3):
        with pytest.raises(DecodeError):
            RAW.apply(whole[:cut])
    slow = replace(RAW, rate=384_000)
    with pytest.raises(DecodeError, match="longer than"):
        slow.apply(wav(np.arange(1000, dtype=np.int16), 1))
    with pytest.raises(DecodeError, match="not a plausible sampling rate"):
        RAW.apply(wav(np.arange(1000, dtype=np.int16), 400_000))
    random = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(whole[:200])
        for place in random.integers(0, 60, 3):
            broken[place] = random.integers(256)
        with contextlib.suppress(DecodeError):
            RAW.apply(bytes(broken))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "channels"),
        ({"channels": 1.5}, "channels"),
        ({"normalization": "serie"}, "Did you mean 'series'"),
        ({"length": 0}, "length"),
        ({"rate": 1}, "rate"),
        ({"mean": (1.0,)}, "mean and std of length 0"),
        ({"normalization": "channel"}, "mean and std of length 1"),
        ({"normalization": "channel", "mean": (0.0,), "std": (0.0,)}, "above 0"),
        ({"normalization": "channel", "mean": (float("nan"),), "std": (1.0,)}, "finite"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(restune.UserError, match=message):
        SignalPreprocess(**changes)


def test_settings_are_changed_stored_and_shown():
    preprocess = SignalPreprocess(channels=2, normalization="channel", mean=(1.0, 2.0), std=(3.0, 4.0), rate=8000)
    assert preprocess_from_dict(preprocess.to_dict()) == preprocess
    assert str(preprocess) == "2 channels, any length, 8000 samples per second, mean 1, 2, std 3, 4"
    assert preprocess.override(std=(1.0,), length=None).std == (1.0, 1.0)
    assert preprocess.override(normalization="series") == SignalPreprocess(channels=2, rate=8000)
    assert preprocess.with_channels(3).mean == (1.5, 1.5, 1.5)
    with pytest.raises(restune.UserError, match="--image-size does not apply to signal"):
        preprocess.override(image_size=32)
    with pytest.raises(restune.UserError, match="does not use mean"):
        SignalPreprocess().override(mean=1.0)
    with pytest.raises(restune.UserError, match="3 values for 2"):
        preprocess.override(mean=(1.0, 2.0, 3.0))


def test_content_is_left_as_it_was():
    series = np.array([[1.0, np.nan, 3.0]], np.float32)
    series.flags.writeable = False
    SignalPreprocess().apply(series)
    assert np.isnan(series[0, 1])
