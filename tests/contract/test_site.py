"""The documentation site as it is built: two languages, nothing requested from elsewhere, code that fits the page."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COLUMNS = 80
FENCE = re.compile(r"^ *(```|~~~)")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


class Page(HTMLParser):
    """The elements of a page, as (tag, attributes) in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def requests(self) -> list[str]:
        """Return the addresses that a browser loads to show the page."""
        found = [attributes[LOADED[tag]] for tag, attributes in self.elements if LOADED.get(tag) in attributes]
        return found + [link["href"] for link in self.all("link") if link["rel"] not in ("prev", "next", "alternate")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {path.relative_to(site).as_posix(): Page(path) for path in site.glob("**/*.html")}
    assert {"index.html", "guide.html", "ar/index.html", "ar/guide.html", "decisions/index.html"} <= found.keys()
    return found


def test_every_page_states_its_language_and_direction(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        if name == "404.html":  # the theme's own
            continue
        (root,), (body,) = page.all("html"), page.all("body")
        expected = ("ar", "rtl") if name.startswith("ar/") else ("en", "ltr")
        assert (root["lang"], root["dir"]) == expected, name
        assert body["dir"] == expected[1], name


def test_arabic_pages_have_an_arabic_interface(pages: dict[str, Page]) -> None:
    english = ("Table of contents", "Previous", "Next", "Search", "Back to top", "Permanent link", "Skip to content")
    for name, page in pages.items():
        visible = re.sub(r"<(script|style|code|pre)\b.*?</\1>", "", page.text, flags=re.DOTALL)
        shown = [text for text in english if re.search(rf'[>"]\s*{text}\s*(["<]|:)', visible)]
        if name.startswith("ar/"):
            assert shown == [], name
            assert "جدول المحتويات" in page.text, name
            assert [box["placeholder"] for box in page.all("input") if box.get("name") == "query"] == ["بحث"], name
    assert "Table of contents" in pages["guide.html"].text


def test_language_selector_leads_to_the_counterpart(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        if name == "404.html":
            continue
        links = {link["hreflang"]: link["href"] for link in page.all("a") if "hreflang" in link}
        assert links.keys() == {"en", "ar"}, name
        found = {language: (site / name).parent.joinpath(link).resolve() for language, link in links.items()}
        own, other = ("ar", "en") if name.startswith("ar/") else ("en", "ar")
        twin = name.removeprefix("ar/") if own == "ar" else f"ar/{name}"
        assert found[own] == (site / name).resolve(), name
        assert found[other] == (site / (twin if twin in pages else "index.html" if other == "en" else "ar/index.html"))


def test_links_within_the_site_resolve(site: Path, pages: dict[str, Page]) -> None:
    anchors = {name: {item["id"] for _, item in page.elements if "id" in item} for name, page in pages.items()}
    for name, page in pages.items():
        for link in page.all("a"):
            address = urlsplit(link.get("href", ""))
            if name == "404.html" or address.scheme or not (address.path or address.fragment):
                continue
            target = (site / name).parent.joinpath(unquote(address.path)).resolve() if address.path else site / name
            assert target.is_file(), (name, link)
            if address.fragment and target.suffix == ".html":
                known = anchors[target.relative_to(site.resolve()).as_posix()]
                assert unquote(address.fragment) in known, (name, link)


def test_nothing_is_requested_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert page.requests(), name
        assert [link for link in page.requests() if urlsplit(link).netloc] == [], name
        # The theme's script fetches a library for diagrams and numbers for a link to a repository: neither is there.
        classes = " ".join(attributes.get("class", "") for _, attributes in page.elements)
        assert "mermaid" not in classes, name
        assert 'data-md-component="source"' not in page.text, name
    for sheet in site.glob("**/*.css"):
        addresses = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", sheet.read_text())
        assert [address for address in addresses if urlsplit(address).netloc] == [], sheet.name


def test_tables_keep_their_cells(pages: dict[str, Page]) -> None:
    """A bar inside code belongs to its cell, and no backslash is shown before it."""
    for name, page in pages.items():
        for table in re.findall(r"<table>.*?</table>", page.text, re.DOTALL):
            rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
            assert len({len(re.findall(r"<t[hd]\b", row)) for row in rows}) == 1, name
            assert "\\|" not in table, name
    assert "<code>&lt;|endoftext|&gt;</code>" in pages["families.html"].text


def test_arabic_is_found_without_vowel_signs(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    arabic = " ".join(entry["title"] + entry["text"] for entry in index["docs"] if entry["location"].startswith("ar/"))
    assert "مرمز" in arabic
    assert [sign for sign in arabic if unicodedata.combining(sign)] == []


def test_only_pages_and_what_they_show_are_published(site: Path) -> None:
    published = {path.name for path in site.iterdir() if path.is_file() and path.suffix != ".html"}
    assert published == {
        *("alignment.png", "architecture.svg", "warm-start-minilm.svg", "warm-start-smollm2.svg"),
        *("style.css", "sitemap.xml", "sitemap.xml.gz"),
    }


def columns(line: str) -> int:
    """Return the width of a line: marks above and below a letter, and directions, take none."""
    return sum(not unicodedata.combining(sign) and unicodedata.category(sign) != "Cf" for sign in line)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_fits_the_page(source: Path) -> None:
    inside, wide = False, []
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if FENCE.match(line):
            inside = not inside
        elif inside and columns(line) > COLUMNS:
            wide.append((number, line))
    assert wide == []
    assert not inside
