"""What the pages of reports share. The frame is in `base.html.j2`, their parts in `parts.html.j2`."""

from __future__ import annotations

import math

from jinja2 import Environment, PackageLoader, StrictUndefined


def page_environment() -> Environment:
    """Finds the templates beside this file; whatever stands in a page is escaped, and nothing may be missing."""
    environment = Environment(
        loader=PackageLoader("BreastTumorSegLib.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number}
    return environment


def number(value: float, digits: int = 0) -> str:
    """A number with so many digits after the point; a dash where it is not defined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "\N{EN DASH}"
