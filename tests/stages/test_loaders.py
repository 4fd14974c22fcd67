"""Loading reads training and validation parts, never the test part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calco.config import Config
from calco.errors import CalcoError
from calco.pipeline import prepare
from calco.runs import RunDir
from calco.stages.audit import audit_samples
from calco.stages.loaders import build_loaders, read_samples
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.training.budget import Clock


def test_the_test_part_stays_closed(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    index = index_samples(data, tiny_config.data)
    audit = audit_samples(index, tiny_config.data, tiny_config.audit)
    split = split_samples(audit, tiny_config.split)
    task = prepare(split, tiny_config, RunDir(tmp_path), Clock())
    for sample in split.part("test"):
        sample.image.unlink()  # nothing may look at it
    loaders = build_loaders(read_samples(split), split, task.plan, tiny_config)
    assert set(loaders.train.ids) == {s.id for s in split.part("train")}
    assert [s.id for s in loaders.validation] == [s.id for s in split.part("validation")]
    assert loaders.tested_ratio == pytest.approx(1.0)  # 3 validation and 3 test images

    gone = [s.image for s in split.part("train")][:2]
    for path in gone:
        path.unlink()
    with pytest.raises(CalcoError) as caught:
        read_samples(split)
    assert len(caught.value.problems) == 2  # both at once
    assert gone[0].name in str(caught.value)


def test_a_fold_trains_on_the_others(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    index = index_samples(discs, tiny_config.data)
    audit = audit_samples(index, tiny_config.data, tiny_config.audit)
    split = split_samples(audit, tiny_config.split.model_copy(update={"folds": 4}))
    task = prepare(split, tiny_config, RunDir(tmp_path), Clock())
    pool = {s.id for s in split.part("train")}
    for number in range(4):
        loaders = build_loaders(task.samples, split, task.plan, tiny_config, number)
        validation = {s.id for s in loaders.validation}
        assert set(loaders.train.ids) == pool - validation
        n_tested = 4 * len(split.part("test"))  # once per training
        assert loaders.tested_ratio == pytest.approx(n_tested / len(validation))
