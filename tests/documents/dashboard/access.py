"""With a keyboard alone, and what axe-core finds."""

import base64
import hashlib
import os
import tarfile

from dev import process
from dev.command import STATE, Failure, step
from dev.fetch import TOOLS
from tests.documents.dashboard import data
from tests.documents.dashboard.controls import expect_query

AXE = "4.14.1"
AXE_SHA512 = (
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="  # of the package
)
AXE_FILE = TOOLS / f"axe-core-{AXE}.js"

# All rules that are on by default, and the one for the size of targets. Nothing is loaded for them.
RUN = """axe.run(document, {preload: false, resultTypes: ["violations"], rules: {"target-size": {enabled: true}}})
    .then(found => found.violations.map(({id, help, nodes}) =>
        `${id}: ${help}: ${nodes.slice(0, 3).map(node => node.target.join(" ")).join(", ")}` +
        (nodes.length > 3 ? ` and ${nodes.length - 3} more` : "")))"""

TABS_MAX = 400

# The focused element, whether its focus can be seen, and which it is of all that come in the order of the document.
FOCUSED = """(() => {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const all = [...document.querySelectorAll("*")];
    return {
        place: all.indexOf(element),
        name: element.name || element.textContent.trim().slice(0, 40) || element.nodeName,
        part: [".site-field input", ".periods a", "summary", ".scroll", ".sites thead a", ".links a"]
            .find(selector => element.matches(selector)) ?? null,
        // The button inside a field of a date is the browser's own, with a focus of its own.
        visible: (element.type === "date" || element.matches(":focus-visible") && style.outlineStyle !== "none" &&
            parseFloat(style.outlineWidth) >= 2) && box.width > 0 && box.bottom > 0 && box.top < innerHeight,
    };
})()"""
PARTS = {".site-field input", ".periods a", "summary", ".scroll", ".sites thead a", ".links a"}


def fetch_axe():
    """The script of axe-core, verified."""
    if not AXE_FILE.exists():
        lock = process.lock(STATE / "axe.lock", 120)
        try:
            if not AXE_FILE.exists():
                download()
        finally:
            if lock is not None:
                os.close(lock)
    return AXE_FILE.read_text()


def download():
    TOOLS.mkdir(parents=True, exist_ok=True)
    package = TOOLS / f"axe-core-{AXE}.tgz"
    argv = ["npm", "pack", "--loglevel=error", "--pack-destination", TOOLS, f"axe-core@{AXE}"]
    step(f"axe-core {AXE}: fetching with npm", argv, STATE / "axe.log", cwd=TOOLS)
    found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if found != AXE_SHA512:
        package.unlink()
        raise Failure(f"axe-core {AXE} has sha512 {found}, expected {AXE_SHA512}: not used")
    with tarfile.open(package) as archive, archive.extractfile("package/axe.min.js") as source:
        new = AXE_FILE.with_suffix(".new")
        new.write_bytes(source.read())
    new.replace(AXE_FILE)
    package.unlink()


def axe(dashboard, script, pages):
    """`pages`: what it is called, query, status, theme and width."""
    page = dashboard.page
    found = []
    try:
        for name, query, status, scheme, width in pages:
            page.resize(width, 900)
            view = dashboard.open(query, scheme=scheme, status=status)
            page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
            page.evaluate(f"{script}; 0")
            found += [f"{view.address}, {name}: {violation}" for violation in page.evaluate(RUN)]
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.emulate()
    if found:
        raise Failure("axe-core: " + "\n    ".join(found))
    dashboard.need_clean("axe-core")


def keyboard(dashboard):
    """Tab reaches every part in the order of the page, and is seen; Enter and blank do what a click does."""
    page = dashboard.page
    view = dashboard.open("period=7d")
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    seen, places = set(), []
    for _ in range(TABS_MAX):
        page.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            break
        if not focused["visible"]:
            raise Failure(f"{view.address}: the focus on {focused['name']!r} cannot be seen")
        places.append(focused["place"])
        seen.add(focused["part"])
    if places != sorted(places):
        raise Failure(f"{view.address}: Tab leaves the order of the page")
    if PARTS - seen:
        raise Failure(f"{view.address}: Tab does not reach {', '.join(sorted(PARTS - seen))} in {len(places)} steps")
    if len(set(places)) < len(places) // 2 or focused is not None:
        raise Failure(f"{view.address}: Tab does not come to the end of the page in {TABS_MAX} steps")
    page.press("Tab", shift=True)
    back = page.evaluate(FOCUSED)
    if not back or back["place"] != places[-1]:
        raise Failure(f"{view.address}: Shift and Tab do not go back")

    view = dashboard.open()
    reach(page, view, ".site-field input")
    page.type("Shop staging")
    enter(dashboard, "Enter in the field of the site")
    view = dashboard.read()
    expect_query(view, "Enter in the field of the site", site_id=data.STAGING)
    reach(page, view, "summary")
    page.press("Enter")
    if not page.evaluate("document.querySelector('details.more').open"):
        raise Failure(f"{view.address}: Enter does not open the details")
    dashboard.open()
    reach(page, view, ".periods a")
    enter(dashboard, "Enter on the first range")
    view = dashboard.read()
    if view.current != [page.evaluate("document.querySelector('.periods a').textContent")]:
        raise Failure(f"{view.address}: Enter on the first range shows {view.current}")
    return len(places)


def reach(page, view, part):
    """Presses Tab until a part has the focus."""
    for _ in range(TABS_MAX):
        page.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused and focused["part"] == part:
            return
    raise Failure(f"{view.address}: Tab does not reach {part}")


def enter(dashboard, what):
    before = dashboard.page.loads
    dashboard.page.press("Enter")
    dashboard.page.wait_load(before, what)
