"""SVG plots of the bench, written by hand: no library, no font, no script, readable on light and dark pages."""

import math
from html import escape

WIDTH = 760
PAD = 20
ROW = 24
BAR = 14

# Where a dark page is preferred the same names get other colours.
LIGHT = {"card": "#ffffff", "edge": "#d8dee4", "text": "#1f2328", "quiet": "#656d76", "grid": "#eaeef2",
         "peer": "#9aa4af", "floor": "#57606a", "ours": "#0d8579", "other": "#c2621b"}
DARK = {"card": "#0d1117", "edge": "#30363d", "text": "#e6edf3", "quiet": "#9198a1", "grid": "#21262d",
        "peer": "#6e7681", "floor": "#b1bac4", "ours": "#2bb5a5", "other": "#e08a4a"}


def _style(colours):
    fills = "".join(f".{name}{{fill:{colour}}}" for name, colour in colours.items())
    strokes = "".join(f".s-{name}{{stroke:{colour}}}" for name, colour in colours.items())
    return fills + strokes


def kind(subject):
    """The colour of a subject: semel's, nginx's as the floor, or a peer's."""
    if subject.startswith("semel"):
        return "ours"
    return "floor" if subject == "nginx" else "other" if subject == "idempotent-proxy" else "peer"


def number(value):
    """A number as people write it: three figures that count, thousands parted."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def room(labels):
    """How much of the width the labels at the left want."""
    return PAD + min(16 + 8 * max(len(label) for label in labels), WIDTH * 0.48)


class Sheet:
    """A page that grows downward."""

    def __init__(self, title, subtitle):
        self.parts = []
        self.text(PAD, PAD + 14, title, "title")
        self.text(PAD, PAD + 33, subtitle, "quiet small")
        self.y = PAD + 48
        self.title = title

    def text(self, x, y, words, style="text", anchor="start"):
        colour = style if any(name in style.split() for name in LIGHT) else f"text {style}"
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{colour}" text-anchor="{anchor}">{escape(words)}</text>')

    def bar(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height}" rx="2" class="{colour}"/>')

    def line(self, x1, y1, x2, y2, colour="grid", dashed=False, width=1):
        dash = ' stroke-dasharray="3 3"' if dashed else ""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                          f'class="s-{colour}" stroke-width="{width}"{dash}/>')

    def dot(self, x, y, colour, radius=4.5, hollow=False):
        style = f"card s-{colour}" if hollow else colour
        ring = ' stroke-width="2"' if hollow else ""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{style}"{ring}/>')

    def path(self, points, colour, dashed=False):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{places}" fill="none" class="s-{colour}" stroke-width="2"{dash}/>')

    def svg(self):
        height = self.y + PAD
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img" aria-label="{escape(self.title)}">\n<style>'
            "text{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
            ".title{font-size:16px;font-weight:600}.strong{font-weight:600}.small{font-size:11.5px}"
            # So that a word over a line stays readable.
            ".halo{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}"
            f"{_style(LIGHT)}@media(prefers-color-scheme:dark){{{_style(DARK)}}}</style>\n"
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" class="card s-edge"/>\n'
            + "\n".join(self.parts) + "\n</svg>\n"
        )


def bars(title, subtitle, groups):
    """Horizontal bars; `groups` are (heading, unit, floor, [(label, subject, value)]), each on a scale of its own.

    A dashed line marks the floor, and each value says how it relates to it.
    """
    sheet = Sheet(title, subtitle)
    left = room([label for _, _, _, rows in groups for label, _, _ in rows])
    right = WIDTH - PAD - 132
    for heading, unit, floor, rows in groups:
        scale = (right - left) / max([value for _, _, value in rows] + ([floor] if floor else []))
        sheet.y += 20
        sheet.text(PAD, sheet.y, heading, "strong")
        sheet.y += 8
        if floor:
            mark = left + scale * floor
            sheet.line(mark, sheet.y, mark, sheet.y + ROW * len(rows), "floor", dashed=True)
        for label, subject, value in rows:
            middle = sheet.y + ROW / 2
            end = left + scale * value
            sheet.text(left - 10, middle + 4, label, "strong" if kind(subject) == "ours" else "text", "end")
            sheet.bar(left, middle - BAR / 2, end - left, BAR, kind(subject))
            sheet.text(end + 8, middle + 4, f"{number(value)} {unit}", "text halo s-card")
            if floor:
                sheet.text(WIDTH - PAD, middle + 4, f"{value / floor:.2f} ×", "quiet", "end")
            sheet.y += ROW
    return sheet.svg()


def _ticks(low, high):
    steps = [base * 10.0**power for power in range(-3, 7) for base in (1, 2, 5)]
    inside = [step for step in steps if low <= step <= high]
    return inside if len(inside) <= 8 else [step for step in inside if f"{step:e}".startswith("1")]


def dots(title, subtitle, groups, unit):
    """Dots on one logarithmic scale; `groups` are (heading, [(label, subject, [p50, p99, p99.9])])."""
    sheet = Sheet(title, subtitle)
    values = [value for _, rows in groups for _, _, row in rows for value in row if value]
    low, high = min(values) / 1.3, max(values) * 1.3
    left = room([label for _, rows in groups for label, _, _ in rows])
    right = WIDTH - PAD - 16

    def place(value):
        return left + (right - left) * math.log(value / low) / math.log(high / low)

    top = sheet.y
    below = []
    for heading, rows in groups:
        sheet.y += 20
        sheet.text(PAD, sheet.y, heading, "strong")
        sheet.y += 8
        for label, subject, row in rows:
            below.append((sheet.y + ROW / 2, label, subject, [place(value) if value else None for value in row]))
            sheet.y += ROW
    for tick in _ticks(low, high):
        sheet.line(place(tick), top + 28, place(tick), sheet.y + 4)
        sheet.text(place(tick), sheet.y + 20, f"{tick:g} {unit}", "quiet small", "middle")
    for middle, label, subject, places in below:
        there = [place for place in places if place is not None]
        colour = kind(subject)
        sheet.text(left - 10, middle + 4, label, "strong" if colour == "ours" else "text", "end")
        if there:
            sheet.line(there[0], middle, there[-1], middle, colour, width=2)
        for index, at in enumerate(places):
            if at is not None:
                sheet.dot(at, middle, colour, (5, 5, 3)[index], hollow=index == 1)
    sheet.y += 42
    _key(sheet, left, [("dot", "p50"), ("ring", "p99"), ("point", "p99.9")])
    return sheet.svg()


def _key(sheet, x, marks):
    for shape, words in marks:
        sheet.dot(x + 5, sheet.y - 4, "quiet", 3 if shape == "point" else 5, hollow=shape == "ring")
        sheet.text(x + 16, sheet.y, words, "quiet small")
        x += 30 + 7 * len(words)


def _part(high):
    """A quarter of an upright axis on which `high` has its place: one, two, 2.5 or five of a power of ten."""
    power = 10 ** math.floor(math.log10(high / 4))
    return next(base * power for base in (1, 2, 2.5, 5, 10) if 4 * base * power >= high)


def _short(records):
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if records >= size:
            return f"{records / size:g} {letter}"
    return str(records)


def lines(title, subtitle, panels):
    """Line charts side by side; `panels` are (heading, unit, [(label, [(records, value)])]).

    Across are records in the store, evenly apart however many; upward from nought.
    """
    sheet = Sheet(title, subtitle)
    shapes = [("ours", False), ("ours", True), ("other", False), ("other", True), ("floor", False), ("floor", True)]
    gap, height, top = 56, 170, sheet.y + 34
    across = (WIDTH - 2 * PAD - 40 - gap * (len(panels) - 1)) / len(panels)
    names = list(dict.fromkeys(label for _, _, series in panels for label, _ in series))
    for index, (heading, unit, series) in enumerate(panels):
        left = PAD + 40 + index * (across + gap)
        records = sorted({at for _, points in series for at, _ in points})
        part = _part(max(value for _, points in series for _, value in points))
        high = 4 * part
        apart = (across - 50) / max(len(records) - 1, 1)
        spots = {at: left + 20 + apart * order for order, at in enumerate(records)}

        def rise(value):
            return top + height * (1 - value / high)

        sheet.text(left, top - 14, f"{heading}, {unit}", "strong")
        for value in (part * step for step in range(5)):
            sheet.line(left, rise(value), left + across, rise(value))
            sheet.text(left - 8, rise(value) + 4, f"{value:,g}", "quiet small", "end")
        for at in records:
            sheet.text(spots[at], top + height + 18, _short(at), "quiet small", "middle")
        for label, points in series:
            colour, dashed = shapes[names.index(label) % len(shapes)]
            sheet.path([(spots[at], rise(value)) for at, value in sorted(points)], colour, dashed)
            for at, value in points:
                sheet.dot(spots[at], rise(value), colour, 3.5)
    sheet.y = top + height + 50
    x = PAD + 40
    for order, label in enumerate(names):
        colour, dashed = shapes[order % len(shapes)]
        wide = 46 + 7 * len(label)
        if x + wide > WIDTH - PAD:
            x, sheet.y = PAD + 40, sheet.y + 20
        sheet.path([(x, sheet.y - 4), (x + 22, sheet.y - 4)], colour, dashed)
        sheet.text(x + 30, sheet.y, label, "quiet small")
        x += wide
    return sheet.svg()
