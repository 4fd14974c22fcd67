"""Loading reads training and validation parts, never the test part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calco.config import Config
from calco.errors import CalcoError
from calco.stages.audit import audit_samples
from calco.stages.loaders import build_loaders
from calco.stages.plan import make_plan
from calco.stages.samples import index_samples
from calco.stages.split import split_samples


def test_the_test_part_stays_closed(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    index = index_samples(data, tiny_config.data)
    audit = audit_samples(index, tiny_config.data, tiny_config.audit)
    split = split_samples(audit, tiny_config.split)
    plan = make_plan(audit, split, tiny_config)
    for sample in split.part("test"):
        sample.image.unlink()  # nothing may look at it
    loaders = build_loaders(split, plan, tiny_config)
    assert set(loaders.train.ids) == {s.id for s in split.part("train")}
    assert [s.id for s in loaders.validation] == [s.id for s in split.part("validation")]
    assert loaders.pixel_ratio == pytest.approx(2.0)  # 3 validation and 3 test images

    gone = [s.image for s in split.part("train")][:2]
    for path in gone:
        path.unlink()
    with pytest.raises(CalcoError) as caught:
        build_loaders(split, plan, tiny_config)
    assert len(caught.value.problems) == 2  # both at once
    assert gone[0].name in str(caught.value)
