"""Pictures on pages of other origins, and the page for readers with a key."""

import json
import re
import shutil
import subprocess
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlencode
from xml.etree import ElementTree

from dev.command import Failure
from dev.testkit import captcha, http
from dev.testkit.http import HOST
from tests.documents.dashboard import data
from tests.documents.dashboard.controls import expect
from tests.documents.dashboard.view import Dashboard

SVG = "{http://www.w3.org/2000/svg}"
PICTURE = "/v1/report.svg"
SCRIPTS = ("script", "foreignObject", "image", "a", "animate", "set", "use")
TITLE_COLUMNS = 62  # of which a longer name is cut
SECRET = "a secret of links that is long enough, for this test alone"
OWN_SITES = (data.SHOP, data.BLOG)
WIDTH = 720

LOADED = """Promise.all([...document.images].map(image => image.complete || new Promise(done =>
    image.onload = image.onerror = done))).then(() => [...document.images].map(image => image.naturalWidth))"""
COLOURS = """(() => ({
    page: getComputedStyle(document.querySelector(".page")).fill,
    text: getComputedStyle(document.querySelector("text")).fill,
    solved: getComputedStyle(document.querySelector(".solved")).fill,
}))()"""


def picture(port, parameters, headers=None, status=200):
    address = f"{PICTURE}?{urlencode(parameters)}"
    answer = http.get(port, address, headers, seconds=20)
    if answer.status != status:
        raise Failure(f"{address}: answered {answer.status}, expected {status}: {answer.text[:200]}")
    return address, answer


def pictures(dashboard):
    """Well-formed, accessible, without scripts, whatever a site is called; light, dark, and as the reader's system."""
    for site_id, name in data.NAMED.items():
        for badge in ({}, {"badge": "solve_rate"}):
            address, answer = picture(dashboard.port, {"site_id": site_id, "period": "28d", **badge})
            try:
                root = ElementTree.fromstring(answer.body)
            except ElementTree.ParseError as error:
                raise Failure(f"{address}: not XML: {error}") from None
            found = [root.tag, root.get("role"), answer.headers["Content-Type"]]
            expect_of(address, "its element, role and type", found, [f"{SVG}svg", "img", "image/svg+xml"])
            for part in ("title",) if badge else ("title", "desc"):
                text = root.findtext(f"{SVG}{part}")
                ids = (root.get("aria-labelledby") or "").split()
                if not text or root.find(f"{SVG}{part}").get("id") not in ids:
                    raise Failure(f"{address}: {part} {text!r} does not name it: {ids}")
            active = [node.tag for node in root.iter() if node.tag.removeprefix(SVG) in SCRIPTS]
            active += [name for node in root.iter() for name in node.attrib if name.startswith("on") or "href" in name]
            if active or re.search(r"url\((?!#)|@import|javascript:", answer.text):
                raise Failure(f"{address}: what may run or load: {active}")
            texts = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
            if not badge and len(name) < TITLE_COLUMNS // 2 and name not in texts:
                raise Failure(f"{address}: the name {name!r} is not in its texts {texts}")
    themes(dashboard)


def expect_of(address, what, found, wanted):
    if found != wanted:
        raise Failure(f"{address}: {what}: expected {wanted!r}, found {found!r}")


def themes(dashboard):
    page = dashboard.page
    seen = {}
    for theme in ("auto", "light", "dark"):
        for scheme in ("light", "dark"):
            address = f"{dashboard.origin}{PICTURE}?period=7d&theme={theme}"
            page.go(address, scheme)
            seen[theme, scheme] = json.dumps(page.evaluate(COLOURS))
            dashboard.need_clean(address)
    light, dark = seen["light", "light"], seen["dark", "dark"]
    wanted = {
        (theme, scheme): dark if (scheme if theme == "auto" else theme) == "dark" else light for theme, scheme in seen
    }
    if light == dark or seen != wanted:
        raise Failure(f"{address}: colours by theme and system: {seen}")


def without_variables(dashboard):
    """A viewer that knows little of CSS draws it too: more than a few colours, at its size."""
    if not shutil.which("rsvg-convert"):
        return "there is no rsvg-convert, so only Chromium has drawn them"
    _, answer = picture(dashboard.port, {"period": "28d", "theme": "light"})
    argv = ["rsvg-convert", "--format", "png"]
    done = subprocess.run(argv, input=answer.body, check=False, capture_output=True, timeout=30)
    if done.returncode:
        raise Failure(f"rsvg-convert: {done.stderr.decode(errors='replace')[:300]}")
    page = dashboard.page
    page.go("about:blank")
    address = "data:image/png;base64," + b64encode(done.stdout).decode()
    found = page.evaluate(
        f"""(async () => {{
            const image = new Image();
            image.src = {json.dumps(address)};
            await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(0, 0, image.width, image.height).data;
            const count = {{}};
            for (let i = 0; i < pixels.length; i += 4) {{
                const colour = [...pixels.subarray(i, i + 3)].map(part => part.toString(16).padStart(2, "0")).join("");
                count[colour] = (count[colour] ?? 0) + 1;
            }}
            return [image.width, image.height, ["2f6fd0", "b9cdec", "b4540a", "1b2330"].map(one => count[one] ?? 0)];
        }})()"""
    )
    root = ElementTree.fromstring(answer.body)
    if found[:2] != [int(root.get(name)) for name in ("width", "height")] or min(found[2]) < 20:
        raise Failure(f"{PICTURE} drawn by rsvg-convert: width, height, pixels of each colour: {found}")
    return "drawn by rsvg-convert too"


@contextmanager
def other_origin(images):
    """Yields the address of a page of another origin with these images."""
    body = "".join(f'<img src="{image.replace("&", "&amp;")}" alt="a picture">' for image in images)
    text = f"<!DOCTYPE html><html lang=en><title>elsewhere</title><link rel=icon href='data:,'>{body}".encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def widths(page, images):
    """How wide each image is on a page of another origin: 0 if it does not show."""
    with other_origin(images) as address:
        page.go(address)
        found = page.evaluate(LOADED)
    page.wrong.clear()
    page.addresses.clear()
    return found


def embedded(dashboard):
    """Without keys every page may show a picture."""
    images = [f"{dashboard.origin}{PICTURE}?{query}" for query in ("period=28d", "badge=solve_rate", "theme=dark")]
    found = widths(dashboard.page, images)
    if found[0] != WIDTH or found[2] != WIDTH or not 60 < found[1] < 300:
        raise Failure(f"{images} on a page of another origin: widths {found}")


class Keyed:
    """A `captcha serve` with keys: one reads two sites."""

    def __init__(self, program, folder):
        self.program = program
        self.keys, self.secrets = folder / "keys", folder / "links"
        self.secrets.write_text(f"{SECRET}\n")
        self.key_file = folder / "read.key"
        words = ["serve", "new-key", "--role", "read", "--sites", ",".join(OWN_SITES), "--key-out", self.key_file]
        line = captcha.command(program, *words)
        self.keys.write_text(line)
        self.id = next(line for line in line.splitlines() if not line.startswith("#")).split()[0]

    @property
    def key(self):
        return self.key_file.read_text().strip()

    def settings(self):
        return {"keys_file": self.keys, "link_secret_file": self.secrets}

    def link(self, query):
        words = ["serve", "new-link", "--link-secret-file", self.secrets, "--key", self.id, "--expires", "2d", query]
        return captcha.command(self.program, *words).strip()


def with_keys(dashboard, port, keyed):
    """A reader sees its own sites alone; pictures show elsewhere by a signed link alone."""
    page = dashboard.page
    origin = f"http://{HOST}:{port}"
    refused = http.get(port, "/v1/dashboard", seconds=20)
    offered = ", ".join(refused.headers.get_all("WWW-Authenticate") or [])
    expect_of(f"{origin}/v1/dashboard", "without a key", (refused.status, "Basic realm=" in offered), (401, True))

    page.go(f"http://reader:{keyed.key}@{HOST}:{port}/v1/dashboard")  # as one types it once; then the browser knows it
    page.addresses.clear()
    own = Dashboard(page, port)
    own.headers = {"Authorization": f"Bearer {keyed.key}"}
    view = own.compare(own.open("period=28d"))
    expect(view, "the sites of a reader", sorted(one["site"] for one in view.sites), sorted(OWN_SITES))
    text = page.html()
    others = [name for site_id, name in data.NAMED.items() if site_id not in OWN_SITES and name in text]
    others += [site_id for site_id in data.SITES if site_id not in OWN_SITES and site_id in text]
    if others:
        raise Failure(f"{view.address}: sites of others: {others[:5]}")
    if keyed.key in text or keyed.key in view.address:
        raise Failure(f"{view.address}: the key is in the page")
    own.open(f"site_id={data.STAGING}", status=403)

    good = keyed.link(f"period=28d&site_id={data.SHOP}")
    changed = good.replace(data.SHOP, data.BLOG)
    plain = f"{PICTURE}?period=28d&site_id={data.SHOP}"
    found = widths(page, [f"{origin}{path}" for path in (good, changed, plain, keyed.link("badge=solve_rate"))])
    if found[:3] != [WIDTH, 0, 0] or not found[3]:
        raise Failure(f"{origin}: a signed link, a changed one, one without a signature, a badge: widths {found}")
    return f"{len(view.sites)} sites"
