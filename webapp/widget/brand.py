"""The host's colour and corners as custom properties, readable in both themes."""

from itertools import count

# The cards' grounds in `static/widget.css`, and what is legible on them (WCAG 2.2, 1.4.3).
LIGHT, DARK = "ffffff", "171e27"
LEGIBLE = 4.5
_STEPS = 64
_Colour = tuple[int, int, int]


def css(accent: str | None, radius: int | None) -> str:
    """A stylesheet. accent: six hex digits; radius: pixels; None: the house's own stays."""
    rules = []
    if radius is not None:
        rules.append(f":root{{--radius:{radius}px}}")
    if accent is not None:
        light, dark = legible(accent, LIGHT), legible(accent, DARK)
        rules += [
            f":root{{--accent:#{light}}}",
            f'html[data-theme="dark"]{{--accent:#{dark}}}',
            '@media (prefers-color-scheme:dark){html[data-theme="auto"]{--accent:#' + dark + "}}",
        ]
    return "\n".join(rules) + "\n"


def legible(accent: str, ground: str) -> str:
    """The colour, taken towards black or white as little as makes it legible on the ground."""
    colour, on = parsed(accent), parsed(ground)
    towards = (0, 0, 0) if _luminance(on) > 0.18 else (255, 255, 255)
    for step in count():
        mixed = _mixed(colour, towards, step / _STEPS)
        if contrast(mixed, on) >= LEGIBLE or step == _STEPS:
            return "".join(f"{each:02x}" for each in mixed)
    raise AssertionError("the last step is black or white")


def contrast(one: _Colour, other: _Colour) -> float:
    """From 1 to 21. Source: WCAG 2.2, contrast ratio."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _mixed(colour: _Colour, towards: _Colour, share: float) -> _Colour:
    red, green, blue = (
        round(own + (other - own) * share) for own, other in zip(colour, towards, strict=True)
    )
    return red, green, blue


def parsed(digits: str) -> _Colour:
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def _luminance(colour: _Colour) -> float:
    red, green, blue = (_linear(each / 255) for each in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
