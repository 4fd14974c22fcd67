"""Documents cannot drift from the code: settings, presets, commands and links are checked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from calco.cli import app
from calco.config import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_what_the_settings_say() -> None:
    page = (ROOT / "docs/reference/config.md").read_text(encoding="utf-8")
    assert page == script("write_config_reference").page()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_presets_load(path: Path) -> None:
    load_config(path)


def test_the_classic_recipe_is_the_classic_recipe() -> None:
    config = load_config(ROOT / "configs/classic.yaml")
    assert (config.model.family, config.model.width, config.model.depth) == ("unet", 64, 4)
    assert (config.loss.name, config.fit.optimizer, config.fit.batch) == ("dice", "adam", 8)
    assert (config.fit.monitor, config.fit.resize_px) == ("loss", 128)
    assert config.fit.patience is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("readme", ["README.md", "README.es.md"])
def test_commands_of_the_readme_exist(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    used = set(re.findall(r"^\s+calco (\w+)|`calco (\w+)", text, flags=re.M))
    names = {a or b for a, b in used}
    assert names >= {"demo", "audit", "train", "predict", "evaluate", "report"}
    for name in names:
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, name
    for name, option in re.findall(r"calco (\w+) [^\n`]*?(--[a-z]+)", text):
        help_text = re.sub(r"\s+", "", CliRunner().invoke(app, [name, "--help"]).output)
        assert option in help_text, f"calco {name} {option}"
