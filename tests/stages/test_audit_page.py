"""The page of an audit: what it says, what it shows, and what cannot break it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.stages.pages import Page, write_png, write_set

from calco.config import AuditConfig, DataConfig
from calco.errors import Problem, Severity
from calco.files import to_json
from calco.records import Audit, Twins
from calco.stages.audit import audit_samples
from calco.stages.audit_page import write_audit_page
from calco.stages.samples import index_samples

HOSTILE = "<img src=x onerror=alert(1)>"  # a legal file name
SIZE = (24, 32)
FIVE_MEGABYTES = 5_000_000


def make_audit(root: Path, ids: list[str], *problems: Problem) -> Audit:
    """Write samples whose masks are their first rows, one more from each to the next."""
    rows = np.arange(SIZE[0])[:, None] + np.zeros(SIZE)  # (H, W)
    masks = {name: rows < number % SIZE[0] for number, name in enumerate(ids)}
    return replace(write_set(root, masks), problems=problems)


def markup_of(audit: Audit, folder: Path) -> str:
    return write_audit_page(audit, folder / "audit.html").read_text(encoding="utf-8")


def page_of(audit: Audit, folder: Path) -> Page:
    return Page(markup_of(audit, folder))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "my nuclei"


IDS = [f"cell{number:02d}" for number in range(20)]

# as the stages make them, one of each code and severity that an audit can end with
FOUND = (
    Problem("IMG_TRUNCATED", "image is cut off or damaged", "images/bad.png", do="copy it again"),
    Problem("IMG_EMPTY", "file has zero bytes", "images/void.png", do="copy it again or remove it"),
    Problem("MASK_SIZE", "sizes differ", "masks/odd.png", "8 x 8", "24 x 32", "fix the mask"),
    Problem("ORPHAN_IMAGE", "1 image without a mask", "images", "lone.png", do="add the masks"),
    Problem("DUP_ID", "2 images share the id 'x'", got="a/x.png, b/x.png", do="rename one"),
    Problem("GROUP_MISSING", "1 image without a group", "groups.csv", "cell01", do="add it"),
    Problem("CSV_ROW", "row has 1 cell", "train.csv:7", "1", "2", "complete the row"),
    Problem("MASK_VALUES", "masks are smeared", "masks/cell03.png", do="save", severity="warning"),
    Problem("MASK_INVERTED", "masks seem to be inverted", do="invert", severity="warning"),
    Problem("TWINS_NEAR", "look alike", "cell01", "cell01, cell02", do="-", severity="warning"),
    Problem("TWIN_MASKS", "masks differ", "cell04", "cell04, cell05", do="-", severity="warning"),
    Problem("LEAK", "leak", "cell06", "cell06 (train), cell07 (test)", severity="warning", do="-"),
    Problem("IMG_BLANK", "1 image has one value", got="cell08", do="remove", severity="warning"),
    Problem("FEW_SAMPLES", "few samples", got="5 usable", do="add images", severity="warning"),
    Problem("FOLDER_UNUSED", "not used", got="old", do="move it away", severity="warning"),
    Problem("IMG_NOTE", "2 images: palette", got="cell09, cell10", severity="note"),
    Problem("IMG_SIZES", "images have 2 sizes", severity="note"),
    Problem("MASK_EMPTY", "1 mask is empty", got="cell00", severity="note"),
    Problem("SHARED_SCENE", "images share one background", severity="note"),
    Problem("SOMETHING_NEW", "nobody has thought of it", severity="note"),
)


def test_every_kind_is_named_and_explained_errors_first(root: Path, tmp_path: Path) -> None:
    page = page_of(make_audit(root, IDS, *FOUND), tmp_path)
    kinds = page.text.split("What was found", 1)[1]
    for problem in FOUND:
        assert problem.code in kinds
        assert problem.what[1:] in kinds
        assert problem.do[1:] in kinds
    assert kinds.count("Why it matters.") == len(FOUND)
    assert kinds.count("What to do.") == len(FOUND)
    badges = [a["class"] for a in page.all("span") if (a.get("class") or "").startswith("badge")]
    order = [["badge error", "badge warning", "badge note"].index(b or "") for b in badges[-20:]]
    assert order == sorted(order)


def test_problems_of_one_kind_are_one_section(root: Path, tmp_path: Path) -> None:
    faults = [replace(FOUND[0], where=f"images/{n}.png") for n in range(3)]
    page = page_of(make_audit(root, IDS, *faults), tmp_path)
    assert len(page.all("article")) == 1
    assert "3 times IMG_TRUNCATED" in page.text
    assert "All 3 places images/0.png images/1.png images/2.png" in page.text


def test_different_words_of_one_kind_are_all_said(root: Path, tmp_path: Path) -> None:
    notes = [replace(FOUND[15], what=f"1 image: {n}", got="") for n in ("palette", "turned")]
    text = page_of(make_audit(root, IDS, *notes), tmp_path).text
    assert "Images that were converted" in text
    assert "1 image: palette 1 time 1 image: turned 1 time" in text


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [
        ("error", "Not ready: 1 kind of fault must be mended first."),
        ("warning", "Ready to train, but look at 1 finding first."),
        ("note", "Ready to train: nothing was found that needs mending."),
    ],
)
def test_the_verdict_is_one_sentence(
    root: Path, tmp_path: Path, severity: Severity, verdict: str
) -> None:
    problems = [Problem("X", "a", do="b", severity=severity) for _ in range(2)]
    text = page_of(make_audit(root, IDS, *problems), tmp_path).text
    assert verdict in text
    assert f"{severity.capitalize()}s 2 " in text  # the count of problems, not of kinds


def test_facts_of_the_set(root: Path, tmp_path: Path) -> None:
    audit = make_audit(root, IDS)
    big = replace(audit.facts[0], height=50, width=60, dtype="uint16", channels=3, high=4095)
    spec = replace(audit.index.spec, channels=3, low=0, high=4095)
    audit = replace(
        audit,
        facts=(big, *audit.facts[1:]),
        twins=(
            Twins(("cell01", "cell02"), "near"),
            Twins(("cell03", "cell04"), "series"),
            Twins(("cell05", "cell06"), "series", 4),
            Twins(("cell07", "cell08"), "series", 4),
        ),
        index=replace(audit.index, spec=spec),
    )
    text = page_of(audit, tmp_path).text
    for words in (
        "my nuclei",
        "images/ beside masks/ (20 images)",
        "Samples 20 images with a mask",
        "24 × 32 px in 19 images, 50 × 60 px in 1",
        "1 (grey) in 19 images, 3 (colour) in 1",
        "8 bit in 19 images, 16 bit in 1",
        "Values in the files 40 to 4095",
        # rows 0 to 19 of 24, on average 9.5 / 24
        "39.6 % of an image on average",
        "19 separate pieces of foreground: 1 in the median image, 1 at most",
        "Empty masks 1 of 20",
        "split 2 blocks of a series that was cut, 1 group of look-alikes, 1 group of series",
        "0 is background, 255 is foreground",
        "three colour channels of 8 bit; 0 becomes 0 and 4095 becomes 255",
    ):
        assert words in text.replace("\u00a0", " ")


def test_the_histogram_counts_every_image_once_on_a_fitting_scale(
    root: Path, tmp_path: Path
) -> None:
    audit = make_audit(root, IDS[:4])
    shares = (
        0.0,
        0.004,
        0.006,
        0.1,
    )  # bars of half a per cent: two images, one, and one at the end
    facts = [replace(f, foreground_fraction=s) for f, s in zip(audit.facts, shares, strict=True)]
    page = page_of(replace(audit, facts=tuple(facts)), tmp_path)
    bars = [a for a in page.all("span") if (a.get("style") or "").startswith("height")]
    assert len(bars) == 20
    assert "highest bar: 2 images" in page.text
    told = [(a["title"] or "").replace("\u00a0", " ") for a in bars]
    assert told[0] == "0 % to 0.5 %: 2 images"
    assert told[1] == "0.5 % to 1 %: 1 image"
    assert told[19] == "9.5 % to 10 %: 1 image"
    assert sum(int(re.findall(r": (\d+)", text)[0]) for text in told) == 4
    assert [a["style"] for a in bars[:3]] == ["height:100.0%", "height:50.0%", "height:0.0%"]


def test_samples_are_shown_with_what_was_found_of_them(root: Path, tmp_path: Path) -> None:
    audit = make_audit(root, IDS, FOUND[7], FOUND[17])
    page = page_of(audit, tmp_path)
    assert page.alts()[0] == "cell03.png with its mask outlined: 12.5 % in 1 piece"
    assert page.alts()[1] == "cell00.png, whose mask is empty"


def test_look_alikes_stand_side_by_side(root: Path, tmp_path: Path) -> None:
    many = ", ".join(IDS[8:14])
    groups = [FOUND[9], replace(FOUND[9], where="cell08", got=f"{many} and 3 more")]
    page = page_of(make_audit(root, IDS, *groups), tmp_path)
    roles = [a["class"] for a in page.all("div") if a.get("role") == "group"]
    assert roles == ["group", "group wide"]
    names = [alt.split(".")[0] for alt in page.alts()[:6]]
    assert names == ["cell01", "cell02", "cell08", "cell09", "cell10", "cell11"]
    assert "and 5 more" in page.text  # nine in all, four shown


def test_at_most_eight_pictures_per_kind_and_all_places_in_words(
    root: Path, tmp_path: Path
) -> None:
    problem = Problem("MASK_FULL", "masks are full", got="...", do="-", severity="warning")
    audit = make_audit(root, IDS, replace(problem, ids=tuple(IDS)))
    page = page_of(audit, tmp_path)
    assert len(page.alts()) == 8 + 12
    assert f"All 20 places {' '.join(IDS)}" in page.text


def test_the_first_kinds_show_more_but_the_last_ones_too(root: Path, tmp_path: Path) -> None:
    ids = tuple(IDS)
    problems = [Problem(f"IMG_{n:02}", "x", do="y", ids=ids) for n in range(20)]
    articles = markup_of(make_audit(root, IDS, *problems), tmp_path).split("<article")[1:]
    shown = [article.split("</article>")[0].count("<img ") for article in articles]
    assert shown == [8] * 4 + [2] * 16  # 64 in all


def test_files_that_are_no_samples_are_shown_as_stored_or_with_the_reason(
    root: Path, tmp_path: Path
) -> None:
    audit = make_audit(root, IDS, *FOUND[:4])
    write_png(root / "masks" / "odd.png", np.eye(8, dtype=np.uint8))
    write_png(root / "images" / "lone.png", np.full((8, 8), 9, np.uint8))
    (root / "images" / "void.png").write_bytes(b"")
    page = page_of(audit, tmp_path)
    assert page.alts()[:2] == [f"{n} as it is stored" for n in ("masks/odd.png", "images/lone.png")]
    assert "no picture: file does not exist images/bad.png" in page.text
    assert "no picture: file has zero bytes images/void.png" in page.text


def test_twelve_samples_are_drawn_by_lot_whatever_their_order(root: Path, tmp_path: Path) -> None:
    audit = make_audit(root, IDS)
    alts = page_of(audit, tmp_path).alts()
    assert len(set(alts)) == 12
    assert alts != sorted(alts)
    index, facts = audit.index, audit.facts
    turned = replace(audit, index=replace(index, samples=index.samples[::-1]), facts=facts[::-1])
    assert page_of(turned, tmp_path).alts() == alts


@pytest.mark.parametrize("fault", ["image", "mask", "text"])
def test_a_picture_that_fails_leaves_a_note(root: Path, tmp_path: Path, fault: str) -> None:
    audit = make_audit(root, IDS[:3], replace(FOUND[7], where="masks/cell01.png"))
    match fault:
        case "image":
            (root / "images" / "cell01.png").unlink()
        case "mask":
            write_png(root / "masks" / "cell01.png", np.zeros((5, 5), np.uint8))
        case _:
            (root / "images" / "cell01.png").write_text("<html>not found</html>")
    page = page_of(audit, tmp_path)
    assert page.text.count("no picture:") == 2  # once at its finding, once in the gallery
    assert len(page.alts()) == 2


def test_page_is_self_contained(root: Path, tmp_path: Path) -> None:
    markup = markup_of(make_audit(root, IDS, *FOUND), tmp_path)
    page = Page(markup)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    assert all((a["src"] or "").startswith("data:image/") for a in page.all("img"))
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    assert "http://" not in markup
    assert "https://" not in markup
    assert "url(" not in markup


def test_page_can_be_heard(root: Path, tmp_path: Path) -> None:
    page = page_of(make_audit(root, IDS, *FOUND), tmp_path)
    assert all(page.alts())
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    targets = {a["id"] for _, a in page.tags if a.get("id")}
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= targets
    assert page.all("html")[0]["lang"] == "en"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    root = tmp_path / "a<b>"
    fault = Problem(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    both = (fault, fault, Problem("X", "x", do="y", ids=(HOSTILE,)))
    markup = markup_of(make_audit(root, [HOSTILE, "b\u202egnp"], *both), tmp_path)
    page = Page(markup)
    assert "<img src=x" not in markup
    assert "<b>" not in re.sub(r"<b>(Why|What|How)", "", markup)
    assert "\u202e" not in markup  # it would turn the rest of the line round
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert page.text.count(HOSTILE) > 5


def test_paths_of_the_machine_stay_out(root: Path, tmp_path: Path) -> None:
    assert str(tmp_path) not in markup_of(make_audit(root, IDS, *FOUND), tmp_path)


def test_three_thousand_findings_stay_below_five_megabytes(root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    audit = make_audit(root, IDS)
    for sample in audit.index:  # noise is what compresses worst
        write_png(sample.image, rng.integers(0, 256, SIZE, np.uint8))
    findings = [
        Problem(f"IMG_{n % 30}", f"what {n}", f"images/{IDS[n % 20]}.png", "'" * 300, do="mend it")
        for n in range(3000)
    ]
    began = time.process_time()
    path = write_audit_page(replace(audit, problems=tuple(findings)), tmp_path / "audit.html")
    assert time.process_time() - began < 5
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.all("article")) == 30
    assert len(page.alts()) == 2 * 30 + 12
    assert path.stat().st_size < FIVE_MEGABYTES
    assert "The first " in page.text
    assert "100 places, which audit.json beside this page names" in page.text


def test_a_set_without_samples_has_a_page(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    page = page_of(make_audit(root, [], *FOUND), tmp_path)
    assert "Not ready" in page.text
    assert "Samples 0" in page.text
    assert "What was understood as foreground" not in page.text


def test_the_twin_is_the_audit_as_json(root: Path, tmp_path: Path) -> None:
    audit = make_audit(root, IDS, *FOUND)
    assert write_audit_page(audit, tmp_path / "a.b.html") == tmp_path / "a.b.html"
    assert (tmp_path / "a.b.json").read_text(encoding="utf-8") == to_json(audit)


def test_same_audit_same_bytes(root: Path, tmp_path: Path) -> None:
    audit = make_audit(root, IDS, *FOUND)
    first = write_audit_page(audit, tmp_path / "audit.html").read_bytes()
    assert write_audit_page(audit, tmp_path / "audit.html").read_bytes() == first


def test_a_real_audit_with_planted_faults(discs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("images", "masks"):
        for path in (discs / folder).iterdir():
            (data / folder).mkdir(parents=True, exist_ok=True)
            (data / folder / path.name).write_bytes(path.read_bytes())
    (data / "images" / "disc03.png").write_bytes(b"")
    copy = (data / "images" / "disc04.png").read_bytes()
    (data / "images" / "disc05.png").write_bytes(copy)
    write_png(data / "masks" / "disc06.png", np.zeros((48, 48), np.uint8))
    write_png(data / "masks" / "disc07.png", np.zeros((40, 48), np.uint8))
    settings = DataConfig()
    audit = audit_samples(index_samples(data, settings), settings, AuditConfig())
    page = page_of(audit, tmp_path)
    assert {p.code for p in audit.problems} >= {"IMG_EMPTY", "MASK_SIZE", "TWINS_EXACT"}
    for problem in audit.problems:
        assert problem.code in page.text
    shown = page.alts()
    assert any(alt.startswith("masks/disc07.png as it is stored") for alt in shown)
    assert any(alt.startswith("disc04.png with") for alt in shown)
    assert "disc06.png, whose mask is empty" in shown
    assert "no picture: file has zero bytes" in page.text
