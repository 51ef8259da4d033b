"""Hooks of MkDocs. Arabic pages get an Arabic interface, and every page links to its counterpart."""

import json
import re
from pathlib import Path
from typing import Any

DIRECTIONS = {"en": "ltr", "ar": "rtl"}
NAMES = {"en": "English", "ar": "العربية"}
WIDE = ("families.md", "matrix.md")  # their list of headings makes room for the tables
VOWELS = re.compile("[\u064b-\u065f\u0670\u0640]")  # and the stretching sign
SCHEMES = {"en": ("Dark", "Light"), "ar": ("الوضع الداكن", "الوضع الفاتح")}


def language(page: Any) -> str:
    """Return the language of a page or file: the pages below `ar/` are Arabic."""
    return "ar" if page is not None and page.url.startswith("ar/") else "en"


def counterpart(page: Any, files: Any, lang: str) -> str:
    """Return the address of a page in another language, or of that language's home where there is none."""
    name = page.file.src_uri.removeprefix("ar/")
    pages = {file.src_uri: file.url for file in files}
    prefix = "ar/" if lang == "ar" else ""
    return pages.get(prefix + name, pages[f"{prefix}index.md"])


def on_page_markdown(markdown: str, **_: Any) -> str:
    r"""Write `\|` in the code of a table as `|`: Markdown on a forge needs the backslash, Python's shows it."""
    row = re.compile(r"^\|.*$", re.MULTILINE)
    return row.sub(lambda line: re.sub(r"`[^`]+`", lambda code: code[0].replace(r"\|", "|"), line[0]), markdown)


def on_page_context(context: dict[str, Any], page: Any, config: Any, nav: Any) -> None:
    """Set the language of the theme, the links of the language selector and the neighbours of the page."""
    lang = language(page)
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    config.theme["language"] = lang
    for scheme, name in zip(config.theme["palette"], SCHEMES[lang], strict=True):
        scheme["toggle"]["name"] = name
    links = {other: counterpart(page, context["pages"], other) for other in NAMES}
    config.extra["alternate"] = [{"lang": other, "name": NAMES[other], "link": links[other]} for other in NAMES]
    config.extra["homepage"] = "ar/index.html" if lang == "ar" else "index.html"
    if language(page.previous_page) != lang:
        page.previous_page = None
    if language(page.next_page) != lang:
        page.next_page = None


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Give the direction of a page to its root element; the theme gives it to the body only."""
    lang = language(page)
    if lang == "ar":
        output = output.replace('title="Permanent link"', 'title="رابط دائم"')
    # The theme's script looks for a site map beside every alternate page; the selector has the same links.
    output = re.sub(r'<link rel="alternate"[^>]*>', "", output)
    return output.replace(f'<html lang="{lang}"', f'<html lang="{lang}" dir="{DIRECTIONS[lang]}"', 1)


def on_post_build(config: Any) -> None:
    """Take Arabic vowel signs out of the search index: the pages have them, and readers search without."""
    path = Path(config.site_dir, "search/search_index.json")
    index = json.loads(path.read_text())
    for entry in index["docs"]:
        entry |= {field: VOWELS.sub("", entry[field]) for field in ("title", "text")}
    path.write_text(json.dumps(index, ensure_ascii=False))
