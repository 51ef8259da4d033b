"""Two languages in one site: Arabic pages get an Arabic interface, and every page links to its counterpart."""

from typing import Any

DIRECTIONS = {"en": "ltr", "ar": "rtl"}
NAMES = {"en": "English", "ar": "العربية"}
WIDE = ("families.md", "matrix.md")  # their list of headings makes room for the tables
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
    return output.replace(f'<html lang="{lang}"', f'<html lang="{lang}" dir="{DIRECTIONS[lang]}"', 1)
