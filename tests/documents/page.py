"""Opens the docs page of the real executable in Chromium: every operation is shown and one can be tried, the console
stays clean, no request fails, and none goes elsewhere. Under /v1, /latest and a gateway's prefix, light and dark."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from dev import supervise
from dev.command import Failure, run, say
from dev.testkit import captcha, http
from dev.testkit.chromium import Chromium
from tests.documents.gateway import gateway

NO_SERVERS = {"kafka_brokers": "127.0.0.1:1", "clickhouse_addr": "127.0.0.1:1"}
PREFIX = "/some/prefix"
PAGE_SIZE = 1280, 1400
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

OPERATIONS = "document.querySelectorAll('.opblock').length"
OPEN = "document.querySelectorAll('.opblock-body').length"
ERRORS = "[...document.querySelectorAll('.errors-wrapper, .loading-container, .failed-config')].map(e => e.innerText)"
OPEN_ALL = "document.querySelectorAll('.opblock:not(.is-open) .opblock-summary-control').forEach(e => e.click())"
IS_DARK = "document.documentElement.classList.contains('dark-mode')"
TRIED = "document.querySelector('.live-responses-table .response .response-col_status')?.innerText.trim()"


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m tests.documents.page", description=__doc__)
    captcha.add_program(parser)
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="write what the page looks like")
    return parser.parse_args()


def carry_out(options, signals):
    folder = Path(tempfile.mkdtemp(prefix="captcha-docs-"))
    try:
        with (
            captcha.serving(options.program, folder / "serve.log", signals, **NO_SERVERS) as port,
            gateway(PREFIX, port) as gateway_port,
            Chromium(folder / "chromium") as browser,
        ):
            count = operations(port)
            look(browser, f"http://127.0.0.1:{port}", "/v1/docs", "light", count, options.screenshots)
            look(browser, f"http://127.0.0.1:{port}", "/v1/docs", "dark", count, options.screenshots)
            look(browser, f"http://127.0.0.1:{port}", "/latest/docs/", "light", count)
            look(browser, f"http://127.0.0.1:{gateway_port}", f"{PREFIX}/v1/docs", "light", count)
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def operations(port):
    """How many operations the API has."""
    answer = http.get(port, "/v1/openapi.json")
    if answer.status != 200:
        raise Failure(f"/v1/openapi.json was answered {answer.status}: {answer.text}")
    return sum(method in METHODS for operations in json.loads(answer.body)["paths"].values() for method in operations)


def look(browser, origin, path, scheme, count, screenshots=None):
    """Opens the page, opens all operations in it, tries one, and fails with all that was wrong."""
    page = browser.open()
    page.go(f"{origin}{path}", scheme)
    page.wait("operations on the page", OPERATIONS, count)
    page.wait("the dark theme", IS_DARK, scheme == "dark")
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
        page.screenshot(screenshots / f"{scheme}.png", *PAGE_SIZE)
    page.evaluate(OPEN_ALL)
    page.wait("operations that are open", OPEN, count)
    page.wait("errors on the page", ERRORS, [])
    if screenshots:
        page.screenshot(screenshots / f"{scheme}-open.png", PAGE_SIZE[0], 8 * PAGE_SIZE[1])
    try_about(page)
    elsewhere = [address for address in page.addresses if not address.startswith((f"{origin}/", "data:"))]
    wrong = page.wrong + [f"asked elsewhere: {address}" for address in elsewhere]
    if wrong:
        raise Failure(f"{path}, {scheme}: {'; '.join(wrong)}")
    asked = sum(address.startswith(f"{origin}/") for address in page.addresses)
    say(f"{path}, {scheme}: {count} operations, {asked} requests, none failed, none went elsewhere, a clean console")


def try_about(page):
    """Presses the buttons that ask the server what it is."""
    about = "document.querySelector('#operations-Documents-getAbout"
    page.wait("a button to try GET /v1/", f"!!{about} .try-out__btn')", True)
    page.evaluate(f"{about} .try-out__btn').click()")
    page.wait("a button to send GET /v1/", f"!!{about} .execute')", True)
    page.evaluate(f"{about} .execute').click()")
    page.wait("the answer to GET /v1/", TRIED, "200")


def main():
    options = arguments()
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    run(main)
