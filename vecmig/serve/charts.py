"""Charts as inline SVG, which needs neither a script nor a style of its own. Pure.

What is placed along the width is placed in percent, so that a chart takes the width that there is and its letters keep
their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from markupsafe import Markup

#: Pixels of the growth chart: the plot, and below it a line of times.
_PLOT: Final = 150
_TOP: Final = 14
#: Vertical lines with a time, both ends included.
_TIMES: Final = 4
#: From which share on a tag counts as grown: what comes later are edits.
_GROWN: Final = 0.98


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the growth chart."""

    name: str
    #: live, standby, candidate or kept: its color.
    role: str
    #: Share of the records, from 0 to 1, by time; the oldest first.
    points: Sequence[tuple[datetime, float]]


def growth_chart(series: Sequence[Series], required: float | None, now: datetime) -> Markup:
    """Draw how coverage grew; empty where there is nothing to draw.

    Args:
        series: a line each; that which began last says which time is shown.
        required: the coverage that the gate asks for, from 0 to 1.
        now: the end of what is known.
    """
    drawn = [one for one in series if one.points]
    if not drawn:
        return Markup()
    begins, ends = _window(max(drawn, key=lambda one: one.points[0][0]), now)
    span = (ends - begins).total_seconds()
    parts = [Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(_y(at)) for at in (0, 0.5, 1)]
    parts += [
        Markup('<text class="axis" x="0" y="{}">{} %</text>').format(_y(at) - 4, round(at * 100)) for at in (0.5, 1)
    ]
    if required is not None:
        parts.append(Markup('<line class="required" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(_y(required)))
    parts.append(
        Markup('<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none">').format(
            _TOP, _PLOT
        )
    )
    for one in drawn:
        steps = [
            (max(0.0, (at - begins).total_seconds()) / span * 1000, (1 - share) * 1000) for at, share in one.points
        ]
        # what came before the time that is shown is where the line begins
        steps = steps[max(0, sum(x == 0 for x, _ in steps) - 1) :]
        path = f"M{steps[0][0]:.1f} {steps[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:]) + "H1000"
        parts.append(Markup('<path class="line {}" d="{}"><title>{}</title></path>').format(one.role, path, one.name))
    parts.append(Markup("</svg>"))
    parts += _times(begins, ends)
    label = "Coverage over time: " + "; ".join(f"{one.name} {one.points[-1][1]:.0%}" for one in drawn)
    height = _TOP + _PLOT + 24
    head = Markup('<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">').format(label, height)
    return head + Markup().join(parts) + Markup("</svg>")


def _y(share: float) -> int:
    return round(_TOP + (1 - share) * _PLOT)


def _window(newest: Series, now: datetime) -> tuple[datetime, datetime]:
    """Return from when to when is shown: the time in which a tag grew, with a margin."""
    begins, last = newest.points[0][0], newest.points[-1][1]
    grown = next((at for at, share in newest.points if share >= _GROWN * last), now)
    ends = now if last < _GROWN else grown
    margin = max((ends - begins) * 0.08, timedelta(seconds=1))
    return begins - margin, min(max(ends + margin, begins + margin), max(now, begins + margin))


def _times(begins: datetime, ends: datetime) -> list[Markup]:
    days = ends - begins > timedelta(days=2)
    form = "%m-%d %H:%M" if days else "%H:%M" if ends - begins > timedelta(minutes=10) else "%H:%M:%S"
    made = []
    for n in range(_TIMES):
        at = begins + (ends - begins) * n / (_TIMES - 1)
        anchor = "start" if n == 0 else "end" if n == _TIMES - 1 else "middle"
        made.append(
            Markup('<text class="axis" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
                round(100 * n / (_TIMES - 1), 2), _TOP + _PLOT + 17, anchor, at.strftime(form)
            )
        )
    return made


def coverage_bar(shares: Mapping[str, float], label: str) -> Markup:
    """Draw what records are, one share behind the other: by the name of a state, from 0 to 1."""
    parts, at = [], 0.0
    for state, share in shares.items():
        if share > 0:
            # what is there is seen, however little it is
            width = max(share * 100, 0.6)
            parts.append(
                Markup('<rect class="{}" x="{}%" y="0" width="{}%" height="100%"/>').format(
                    state, round(min(at, 100 - width), 3), round(width, 3)
                )
            )
            at += share * 100
    head = Markup('<svg class="bar" role="img" aria-label="{}" width="100%" height="10">').format(label)
    return head + Markup().join(parts) + Markup("</svg>")


def interval(low: float, mean: float, high: float, reach: float) -> Markup:
    """Draw a difference with its interval beside zero, which is in the middle; ``reach`` is the end on either side."""
    tone = "worse" if high < 0 else "better" if low > 0 else "even"
    ends = [round(50 + max(-1.0, min(1.0, value / reach)) * 48, 2) for value in (low, mean, high)]
    return Markup(
        '<svg class="interval" role="img" aria-label="{4} [{5}, {6}]" width="100%" height="18">'
        '<line class="zero" x1="50%" x2="50%" y1="0" y2="18"/>'
        '<line class="{3}" x1="{0}%" x2="{2}%" y1="9" y2="9"/><circle class="{3}" cx="{1}%" cy="9" r="4"/></svg>'
    ).format(*ends, tone, f"{mean:+.3f}", f"{low:+.3f}", f"{high:+.3f}")


def distribution(quantiles: Mapping[str, float], low: float, high: float, role: str) -> Markup:
    """Draw quantiles between two ends: a line from the smallest to the largest, a box for the middle half."""
    span = (high - low) or 1.0
    ordered = sorted((float(share), value) for share, value in quantiles.items())
    least, lower, middle, upper, most = (round((value - low) / span * 96 + 2, 2) for _, value in ordered)
    label = ", ".join(f"{share:.0%}: {value:.3f}" for share, value in ordered)
    return Markup(
        '<svg class="distribution {0}" role="img" aria-label="{1}" width="100%" height="18">'
        '<line x1="{2}%" x2="{3}%" y1="9" y2="9"/><rect x="{4}%" y="3" width="{5}%" height="12"/>'
        '<line class="median" x1="{6}%" x2="{6}%" y1="1" y2="17"/></svg>'
    ).format(role, label, least, most, lower, round(max(upper - lower, 0.4), 2), middle)


def column(value: float, most: float) -> Markup:
    """Draw one value among others as a bar that begins at the left."""
    width = round(100 * value / most, 2) if most else 0
    return Markup(
        '<svg class="column" aria-hidden="true" width="100%" height="12"><rect width="{}%" height="100%"/></svg>'
    ).format(width)
