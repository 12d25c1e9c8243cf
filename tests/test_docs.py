"""The documentation leads somewhere: links and pictures exist, and the pages of the indexes have one order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ABOUT_ALL = ("ann-comparison.md", "ann-first-call.md")
INDEXES = [p for p in PAGES if p.name.startswith("ann-") and p.name not in ABOUT_ALL]
SECTIONS = [
    "The idea",
    "Picture",
    "Derivation",
    "In memory",
    "Costs, and what limits it",
    "Filters and removal",
    "When to use it",
    "Measured",
    "Sources",
]


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken(page):
    """The links of a page that lead nowhere."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if part else []
        if not target.exists() or part and part not in map(anchor, headings):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    assert broken(page) == []


def test_broken_links_are_noticed(tmp_path):
    (tmp_path / "there.md").write_text("# A part\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](there.md#a-part) ![c](gone.png) [d](there.md#gone) [e](https://example.org)")
    assert broken(page) == ["gone.png", "there.md#gone"]


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    start = (ROOT / "docs" / "ann.md").read_text(encoding="utf-8")
    missing = [p.name for p in PAGES[1:] if p.name != "README.md" and f"({p.name})" not in contents + start]
    assert missing == []


@pytest.mark.parametrize("page", INDEXES, ids=lambda page: page.name)
def test_the_pages_of_the_indexes_have_the_same_sections(page):
    found = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [section for section in SECTIONS if section in found]
    assert set(SECTIONS) - set(found) <= {"Filters and removal"}
    name = page.stem.removeprefix("ann-")
    for picture in (f"results/ann_{name}.png", f"results/ann_{name}_curve.png"):
        assert f"]({picture})" in page.read_text(encoding="utf-8")
        assert (ROOT / "docs" / picture).stat().st_size < 150_000
