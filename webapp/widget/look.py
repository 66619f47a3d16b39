"""One look at a widget: how it is to be shown, and when."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from webapp.widget.figures import Figures
from webapp.widget.geometry import Across
from webapp.widget.options import Options


@dataclass(frozen=True)
class Look:
    """What every part of the page needs to know."""

    options: Options
    now: datetime

    @cached_property
    def say(self) -> Figures:
        return Figures(self.options.locale)

    @cached_property
    def across(self) -> Across:
        return Across(self.options.dir == "rtl")

    @property
    def is_compact(self) -> bool:
        return self.options.compact
