"""Pixels that several processes share are those that each would have decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calco.config import DataConfig
from calco.errors import CalcoError
from calco.stages.samples import index_samples
from calco.training.cache import decode
from calco.training.shared_cache import decode_shared, remove_shared


def test_shared_pixels_are_the_decoded_ones(discs: Path, tmp_path: Path) -> None:
    index = index_samples(discs, DataConfig())
    own = decode(index)
    shared = decode_shared(index, tmp_path / "cache", "a")
    again = decode_shared(index, tmp_path / "cache", "a")
    for one, first, second in zip(own, shared, again, strict=True):
        assert one.id == first.id == second.id
        assert np.array_equal(one.image, first.image)
        assert np.array_equal(one.mask, second.mask)
        assert first.image.shape == one.image.shape
        assert first.image.flags.writeable  # what torch wants of arrays
    remove_shared(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert np.array_equal(own[0].image, shared[0].image)  # mapped pixels outlive the name


def test_the_second_process_decodes_nothing_and_another_key_does(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_samples(discs, DataConfig())
    decode_shared(index, tmp_path, "a")

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("calco.training.shared_cache.decode", refuse)
    assert len(decode_shared(index, tmp_path, "a")) == 20
    with pytest.raises(AssertionError, match="decoded again"):
        decode_shared(index, tmp_path, "b")


def test_a_folder_that_cannot_be_written_is_named(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(CalcoError, match="SCRATCH_WRITE"):
        decode_shared(index_samples(discs, DataConfig()), tmp_path / "file" / "cache", "a")
