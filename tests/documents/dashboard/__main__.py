"""Opens the dashboard of the real executable in Chromium and holds it against the events that were posted and against
GET /v1/report: every number and every control, at three widths, light, dark, in forced colours and on paper, without
scripts, with a keyboard alone, by axe-core. Needs the servers of `dev/stack.py with`; `make docs-check` sees to it."""

import argparse
import shutil
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from dev import supervise
from dev.command import Failure, run, say
from dev.testkit import captcha, servers
from dev.testkit.chromium import Chromium
from tests.documents.dashboard import access, controls, data, embedding, looks, states
from tests.documents.dashboard.view import Dashboard
from tests.documents.gateway import gateway

PREFIX = "/some/prefix"
EMPTY = f"site_id={data.OLD}&period=7d"
REFRESH_SECONDS = 10
REFRESHED_SECONDS = 40

WIDE, NARROW = 1440, 360
LAYOUTS = (
    ("", 200),
    (f"site_id={data.SITES[8]}", 200),  # the longest name
    (f"site_id={data.SITES[30]}", 200),  # none
    ("site=sho", 200),
    ("period=12mo", 200),
    ("period=today", 200),
    (EMPTY, 200),
    (f"site_id={data.NEVER}", 200),
    (states.WRONG, 422),
)
AXE_PAGES = (
    ("light", "", 200, "light", WIDE),
    ("dark", "", 200, "dark", WIDE),
    ("narrow", "", 200, "light", NARROW),
    ("narrow and dark", "", 200, "dark", NARROW),
    ("one site", f"site_id={data.SHOP}&period=today&refresh=300", 200, "light", WIDE),
    ("several that fit", "site=sho", 200, "light", WIDE),
    ("an empty range", EMPTY, 200, "dark", WIDE),
    ("no events", f"site_id={data.NEVER}", 200, "light", NARROW),
    ("an error", states.WRONG, 422, "light", WIDE),
    ("an error in the dark", states.WRONG, 422, "dark", NARROW),
)


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m tests.documents.dashboard", description=__doc__)
    captcha.add_program(parser)
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="write what the page looks like")
    parser.add_argument("--only", metavar="PART", help="only checks whose names have this part")
    return parser.parse_args()


def carry_out(options, signals):
    given = servers.given("make docs-check")
    axe = access.fetch_axe()
    folder = Path(tempfile.mkdtemp(prefix="captcha-dashboard-"))
    settings = given.settings(f"dashboard_{uuid.uuid4().hex}")
    sites_file = folder / "sites"
    sites_file.write_text(data.names_file())
    try:
        captcha.command(options.program, "migrate", **settings)
        keyed = embedding.Keyed(options.program, folder)
        with (
            captcha.running("consume", options.program, given.logs / "dashboard-consume.log", signals, **settings),
            captcha.serving(
                options.program, given.logs / "dashboard-serve.log", signals, sites_file=sites_file, **settings
            ) as port,
            captcha.serving(
                options.program,
                given.logs / "dashboard-keys.log",
                signals,
                sites_file=sites_file,
                **keyed.settings(),
                **settings,
            ) as keyed_port,
            gateway(PREFIX, port) as gateway_port,
            Chromium(folder / "chromium") as browser,
        ):
            return Checks(options, browser, port, gateway_port, axe).run(keyed, keyed_port)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Checks:
    """One check after the other; a failed one does not keep the others from running."""

    def __init__(self, options, browser, port, gateway_port, axe):
        self.options, self.browser, self.port, self.gateway_port, self.axe = options, browser, port, gateway_port, axe
        self.dashboard = Dashboard(browser.open(), port)
        self.failed = []

    def check(self, name, check, *values):
        if self.options.only and self.options.only not in name:
            return
        begin = time.monotonic()
        try:
            result = check(*values)
        except Failure as failure:
            self.failed.append(name)
            say(f"{name}: FAILED: {failure}")
            self.dashboard.page.wrong.clear()
        else:
            say(f"{name}: {'' if result is None else f'{result}, '}{time.monotonic() - begin:.1f} s")

    def run(self, keyed, keyed_port):
        dashboard = self.dashboard
        first = states.no_events(dashboard)
        say("no events: the command of the page made a challenge, and it is counted")
        now = datetime.now(UTC)
        made = data.challenges(now)
        sent = data.post(self.port, made)
        made.append(first)
        data.wait_counted(self.port, sent["serve"] + 1)
        say(f"posted {sent['serve']} serves and {sent['solve']} solves of {len(data.SITES) + 2} sites")
        refreshing = self.browser.open()
        refreshing.go(dashboard.address(f"refresh={REFRESH_SECONDS}"))

        self.check("numbers of the events that were posted", controls.posted_numbers, dashboard, made, clock)
        self.check("links of ranges", controls.periods, dashboard)
        self.check("dates", controls.days, dashboard, made, clock)
        self.check("the field of the site", controls.site_field, dashboard)
        self.check("the order of sites", controls.sorting, dashboard)
        self.check("refresh", controls.refresh, dashboard)
        self.check("bars and rows that lead further", controls.drill_down, dashboard, made, clock)
        self.check("the same numbers in other forms", controls.links, dashboard)
        self.check("an empty range", states.empty_range, dashboard, made, clock)
        self.check("wrong parameters", states.errors, dashboard)
        self.check("lists of the form", controls.selects, dashboard)
        self.check("layout", looks.layout, dashboard, LAYOUTS)
        self.check("themes", looks.themes, dashboard)
        self.check("paper", looks.paper, dashboard)
        self.check("without scripts", looks.without_scripts, dashboard)
        self.check("size", looks.size, dashboard, clock)
        self.check("keyboard", access.keyboard, dashboard)
        self.check("axe-core", access.axe, dashboard, self.axe, AXE_PAGES)
        behind = Dashboard(dashboard.page, self.gateway_port, PREFIX)
        self.check("a slash at the end", looks.elsewhere, dashboard)
        self.check("a gateway's prefix", looks.elsewhere, behind)
        self.check("pictures", embedding.pictures, dashboard)
        self.check("pictures without variables", embedding.without_variables, dashboard)
        self.check("pictures on a page of another origin", embedding.embedded, dashboard)
        self.check("readers with a key", embedding.with_keys, dashboard, keyed_port, keyed)
        self.check("a page that loads itself again", reloads, refreshing)
        if self.options.screenshots:
            looks.screenshots(dashboard, self.options.screenshots, EMPTY, states.WRONG)
        if self.failed:
            raise Failure(f"{len(self.failed)} of the checks failed, see above: {', '.join(self.failed)}")
        return 0


def clock():
    return datetime.now(UTC)


def reloads(page):
    """Opened long ago, with a refresh."""
    page.wait_load(1, f"a page with refresh={REFRESH_SECONDS}")
    if page.wrong:
        raise Failure(f"a page that loads itself again: {'; '.join(page.wrong)}")


def main():
    options = arguments()
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    run(main)
