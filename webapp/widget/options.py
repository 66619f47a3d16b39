"""How a widget is to look: the presentational part of its address."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from babel import Locale
from babel.core import UnknownLocaleError

from webapp import shown

THEMES = ("auto", "light", "dark")
DIRECTIONS = ("ltr", "rtl")
# A card with rounder corners than this has no room for what is in them.
MOST_RADIUS = 24
_ACCENT = re.compile(r"#?([0-9a-fA-F]{6})")
_RADIUS = re.compile(r"([0-9]{1,2})(px)?")
_TRUE = ("1", "true", "yes")


@dataclass(frozen=True)
class Options:
    """locale: as Babel spells it.  accent: six hex digits; radius: pixels; None: the
    house's own."""

    locale: str = shown.LOCALE
    dir: str = "ltr"
    compact: bool = False
    theme: str = "auto"
    accent: str | None = None
    radius: int | None = None

    @property
    def query(self) -> str:
        """What the frame's polls must repeat to get the same words in the same form."""
        asked = {"locale": self.locale.replace("_", "-"), "dir": self.dir}
        return urlencode(asked | ({"compact": "1"} if self.compact else {}))

    @property
    def brand_url(self) -> str:
        """Where the host's colour and corners are, as a stylesheet."""
        return (
            f"/widget/brand/{self.accent or '-'}/{'-' if self.radius is None else self.radius}.css"
        )


def read(query: Mapping[str, str]) -> Options:
    """Never refuses: a value that cannot be read is as good as none, for the number matters more
    than its looks."""
    locale = _locale(query.get("locale", ""))
    direction = query.get("dir", "")
    theme = query.get("theme", "")
    return Options(
        locale=str(locale),
        dir=direction if direction in DIRECTIONS else locale.text_direction,
        compact=query.get("compact", "").lower() in _TRUE,
        theme=theme if theme in THEMES else THEMES[0],
        accent=accent(query.get("accent", "")),
        radius=radius(query.get("radius", "")),
    )


def of_anyone(query: Mapping[str, str]) -> Options:
    """All but the locale, for who may see nothing: a locale's figures are read once and kept, and
    those of every locale take much memory."""
    return read({name: query[name] for name in query if name != "locale"})


def accent(text: str) -> str | None:
    """Six hex digits, small; None if it is no colour."""
    found = _ACCENT.fullmatch(text)
    return found[1].lower() if found else None


def radius(text: str) -> int | None:
    """Pixels; None if it is no length."""
    found = _RADIUS.fullmatch(text)
    return min(int(found[1]), MOST_RADIUS) if found else None


def _locale(tag: str) -> Locale:
    """The locale, or else its language alone, or else the house's."""
    parts = tag.replace("_", "-").split("-")[:4]
    for wanted in ("_".join(parts), parts[0]):
        try:
            found = Locale.parse(wanted)
        except (ValueError, UnknownLocaleError):
            continue
        if found.language != "root":
            return found
    return Locale.parse(shown.LOCALE)
