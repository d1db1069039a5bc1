"""How the page looks: nothing overlaps, is cut off or too small, at any width and in any theme; on paper; and without
scripts. How large it is."""

import gzip
import re

from dev.command import Failure, say
from dev.testkit import http
from tests.documents.dashboard import data
from tests.documents.dashboard.controls import OPEN_DETAILS, unclocked

WIDTHS = (360, 768, 1100, 1440)
TABLE_PIXELS_MIN = 768  # of a window in which every table is whole
HEIGHT = 900
TEXT_PIXELS_MIN = 11
PAGE_BYTES_MAX = 100_000
SHOWN_SITES, BUCKETS = 50, 92

# Boxes of visible text: of each line of each piece of text. `.hidden` is for screen readers, tips are shown one at a
# time, and text in the middle of a sentence (links, times) has boxes between those of its parent.
LAYOUT = """(() => {
    const wrong = [];
    const name = node => node.nodeName.toLowerCase() + "." + (node.className.baseVal ?? node.className) +
        " " + JSON.stringify(node.textContent.trim().slice(0, 40));
    const page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) {
        const wide = [...document.querySelectorAll("body *")].filter(node =>
            node.getBoundingClientRect().right > page.clientWidth + 1 && !node.closest(".scroll, pre, .tips"));
        wrong.push(`the page is ${page.scrollWidth} px wide, the window ${page.clientWidth}: ` +
            wide.slice(0, 3).map(name).join(", "));
    }
    const boxes = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode, parent = text.parentElement;
        if (!text.data.trim() || parent.closest(".hidden, .tips, option, datalist, title, desc")) continue;
        if (!parent.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
        const size = parseFloat(getComputedStyle(parent).fontSize);
        if (size < %(smallest)s) wrong.push(`${size} px: ${name(parent)}`);
        const range = document.createRange();
        range.selectNodeContents(text);
        const scroll = parent.closest(".scroll, pre");
        const card = parent.closest(".tile, section, header, footer > *");
        for (const box of range.getClientRects()) {
            if (box.width < 1 || box.height < 1) continue;
            // The height of a line is more than that of its letters.
            const trim = box.height * 0.2;
            boxes.push({parent, left: box.left, right: box.right, top: box.top + trim, bottom: box.bottom - trim});
            if (scroll) continue;
            const around = card ? card.getBoundingClientRect() : page.getBoundingClientRect();
            if (box.right > around.right + 1 || box.left < around.left - 1) {
                wrong.push(`${name(parent)} leaves ${name(card ?? page).slice(0, 40)}`);
            }
        }
    }
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
        const [one, other] = [boxes[i], boxes[j]];
        const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
        const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
        if (width > 1 && height > 1 && !clipped(one) && !clipped(other)) {
            wrong.push(`${name(one.parent)} and ${name(other.parent)} overlap`);
        }
    }
    // What a box with a scroll bar does not show overlaps nothing.
    function clipped(box) {
        const scroll = box.parent.closest(".scroll, pre");
        if (!scroll) return false;
        const shown = scroll.getBoundingClientRect();
        return box.right > shown.right + 1 || box.left < shown.left - 1;
    }
    for (const scroll of innerWidth < %(table)s ? [] : document.querySelectorAll(".scroll")) {
        if (scroll.scrollWidth > scroll.clientWidth) {
            wrong.push(`${scroll.ariaLabel}: ${scroll.scrollWidth} px in ${scroll.clientWidth}`);
        }
    }
    for (const control of document.querySelectorAll("a, button, input, select, summary")) {
        const box = control.getBoundingClientRect();
        if (box.width && box.right > page.clientWidth + 1 && !control.closest(".scroll, .tips")) {
            wrong.push(`${name(control)} is outside of the window`);
        }
    }
    return [...new Set(wrong)].slice(0, 5);
})()"""

OPEN_ALL = "document.querySelectorAll('details').forEach(details => details.open = true)"

COLOURS = """(() => {
    const style = (selector, name) => {
        const found = document.querySelector(selector);
        return found && getComputedStyle(found)[name];
    };
    const paint = selector => ["fill", "stroke", "strokeDasharray"].map(name => style(selector, name)).join(" ");
    return {
        page: style("html", "backgroundColor"), card: style(".tiles", "backgroundColor"), text: style("body", "color"),
        solved: paint(".drawing .solved"), unsolved: paint(".drawing .unsolved"), pending: paint(".drawing .pending"),
        rate: style(".drawing .rate:not(.halo)", "stroke"), halo: style(".drawing .rate.halo", "stroke"),
    };
})()"""

SCRIPTS = """(() => [
    ...[...document.querySelectorAll("script, iframe, object, embed, base")].map(node => node.outerHTML),
    ...[...document.querySelectorAll("*")].flatMap(node => [...node.attributes])
        .filter(({name, value}) => name.startsWith("on") || name === "style" || /^\\s*javascript:/i.test(value))
        .map(({name, value}) => `${name}=${value}`),
])()"""


def layout(dashboard, queries):
    """Each page at each width, with the details closed and open."""
    page = dashboard.page
    try:
        for query, status in queries:
            view = dashboard.open(query, status=status)
            for state, script in (("as it comes", "0"), ("with everything open", OPEN_ALL)):
                page.evaluate(script)
                for width in WIDTHS:
                    page.resize(width, HEIGHT)
                    wrong = page.evaluate(LAYOUT % {"smallest": TEXT_PIXELS_MIN, "table": TABLE_PIXELS_MIN})
                    if wrong:
                        raise Failure(f"{view.address} at {width} px, {state}: {'; '.join(wrong)}")
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def themes(dashboard):
    """Light and dark differ; with forced colours, the parts of the chart still do."""
    page = dashboard.page
    found = {}
    for theme, settings in (
        ("light", {"scheme": "light"}),
        ("dark", {"scheme": "dark"}),
        ("forced", {"forced_colors": True}),
        ("forced dark", {"scheme": "dark", "forced_colors": True}),
    ):
        dashboard.open("period=7d")
        page.emulate(**settings)
        found[theme] = colours = page.evaluate(COLOURS)
        parts = [colours[part] for part in ("solved", "unsolved", "pending", "rate")]
        solved, unsolved = (colours[part].partition(") ")[0] for part in ("solved", "unsolved"))
        if len(set(parts)) < len(parts) or solved == unsolved:
            raise Failure(f"{dashboard.address('period=7d')}, {theme}: parts of the chart look the same: {colours}")
        if colours["halo"] != colours["card"]:
            raise Failure(f"{dashboard.address('period=7d')}, {theme}: the line's edge is not the card's: {colours}")
        is_dark = sum(map(int, re.findall(r"\d+", colours["page"])[:3])) < 3 * 128
        if is_dark != ("dark" in theme):
            raise Failure(f"{dashboard.address('period=7d')}, {theme}: the page is {colours['page']}")
    page.emulate()


def paper(dashboard):
    """Printed, the form is gone and the numbers are there, in black on white, on at least one page."""
    page = dashboard.page
    view = dashboard.open("period=7d", scheme="dark")
    page.emulate(scheme="dark", media="print")
    visible = """selector => {
        const found = document.querySelector(selector);
        return found && found.checkVisibility({visibilityProperty: true}) && found.getClientRects().length > 0;
    }"""
    shown = {
        selector: page.evaluate(f"({visible})({selector!r})")
        for selector in ("form", ".periods", ".links", ".tile data", "h1", ".drawing", ".sites tbody tr", ".freshness")
    }
    for selector, is_shown in shown.items():
        if is_shown == (selector in ("form", ".periods", ".links")):
            raise Failure(f"{view.address} on paper: {selector} is {'shown' if is_shown else 'not shown'}")
    colours = page.evaluate(COLOURS)
    if colours["page"] != "rgb(255, 255, 255)" or colours["text"] != "rgb(0, 0, 0)":
        raise Failure(f"{view.address} on paper, from a dark screen: {colours}")
    pdf = page.pdf()
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))
    if not pdf.startswith(b"%PDF-") or pages < 1:
        raise Failure(f"{view.address}: its PDF has {pages} pages")
    page.emulate()
    return pages


def without_scripts(dashboard):
    """No script, nor anything that could be one; with scripts off it is the same document."""
    page = dashboard.page
    for query, status in (("", 200), (f"site_id={data.SITES[3]}", 200), ("period=%3Cscript%3E", 422)):
        view = dashboard.open(query, status=status)
        found = page.evaluate(SCRIPTS)
        if found:
            raise Failure(f"{view.address}: scripts or styles within the page: {found[:5]}")
        with_scripts = unclocked(page.html())
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.go(dashboard.address(query))
        off = unclocked(page.html())
        page.call("Emulation.setScriptExecutionDisabled", value=False)
        dashboard.need_clean(view.address, status)
        if off != with_scripts:
            raise Failure(f"{view.address}: with scripts off it is another document")


def size(dashboard, clock):
    """Fifty sites and a row of all others, a quarter of a year by day."""
    today = data.start_of_day(clock())
    query = f"from={(today - 91 * data.DAY).date()}&to={(today + data.DAY).date()}"
    view = dashboard.open(query)
    if (len(view.sites), len(view.buckets)) != (SHOWN_SITES + 1, BUCKETS):
        raise Failure(f"{view.address}: {len(view.sites)} rows of sites and {len(view.buckets)} buckets")
    path = view.address.removeprefix(dashboard.origin)
    plain = http.get(dashboard.port, path, seconds=20)
    packed = http.get(dashboard.port, path, {"Accept-Encoding": "gzip"}, seconds=20)
    if packed.headers.get("Content-Encoding") != "gzip" or b"</html>" not in gzip.decompress(packed.body):
        raise Failure(f"{view.address}: not compressed, or not whole")
    said = f"{len(plain.body):,} bytes, {len(packed.body):,} with gzip, {SHOWN_SITES} sites, {BUCKETS} days"
    if len(plain.body) > PAGE_BYTES_MAX:
        raise Failure(f"{view.address}: {said}; at most {PAGE_BYTES_MAX:,}")
    say(f"size: {said}")


def elsewhere(dashboard):
    """Below a gateway's prefix, or with a slash at the end, every link and the style sheet are in their places."""
    page = dashboard.page
    for end in ("", "/"):
        view = dashboard.open("period=7d", end=end)
        if not page.evaluate("getComputedStyle(document.querySelector('.periods ul')).listStyleType === 'none'"):
            raise Failure(f"{view.address}: it has no style")
        script = "[...document.querySelectorAll('a')].map(node => new URL(node.getAttribute('href'), location).href)"
        root = dashboard.address().removesuffix("dashboard")
        wrong = {link for link in page.evaluate(script) if not link.startswith(root)}
        if wrong:
            raise Failure(f"{view.address}: links out of {root}: {sorted(wrong)[:3]}")
        for name, href in page.evaluate("[...document.querySelectorAll('.links a')].map(a => [a.textContent, a.href])"):
            answer = http.get(dashboard.port, href.removeprefix(dashboard.origin), seconds=20)
            if answer.status != 200 and "picture" not in name:
                raise Failure(f"{view.address}: {name!r}, {href}, was answered {answer.status}")
        view = dashboard.compare(dashboard.follow("document.querySelectorAll('.periods a')[0]", "a range"))
        page.evaluate(OPEN_DETAILS)
        if not view.address.startswith(dashboard.address(end=end)):
            raise Failure(f"{view.address}: a link of {dashboard.address(end=end)} leads there")


def screenshots(dashboard, folder, empty_query, error_query):
    page = dashboard.page
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            page.resize(width, HEIGHT)
            dashboard.open("", scheme=scheme)
            page.whole_screenshot(folder / f"{width}-{scheme}.png")
    page.resize(WIDTHS[-1], HEIGHT)
    page.emulate(forced_colors=True)
    page.whole_screenshot(folder / "forced-colours.png")
    page.emulate(media="print")
    page.whole_screenshot(folder / "print.png")
    (folder / "print.pdf").write_bytes(page.pdf())
    page.emulate()
    for name, query, status in (
        ("empty", empty_query, 200),
        ("error", error_query, 422),
        ("one-site", f"site_id={data.SHOP}", 200),
    ):
        dashboard.open(query, status=status)
        page.whole_screenshot(folder / f"{name}.png")
    page.call("Emulation.clearDeviceMetricsOverride")
