"""A widget's page as HTML, and how the tests read it."""

import re
from html.parser import HTMLParser
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

import webapp
from webapp.widget.presenters import Page

HERE = Path(webapp.__file__).parent
TEMPLATES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)


def rendered(of: Page) -> str:
    return TEMPLATES.get_template("widget/_usage.html").render(page=of)


def text(html: str) -> str:
    """What is read: without tags, with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


class Tags(HTMLParser):
    """Every element that was opened, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    @property
    def ids(self) -> list[str]:
        return [value or "" for name, value in self.attributes if name == "id"]
