"""Makes the pictures of README and docs/ with the real executable, sample events and Chromium: the dashboard, and a
recording of the report in a terminal. Needs the servers of `dev/stack.py with`; `make pictures` sees to it."""

import argparse
import shlex
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from dev import supervise
from dev.command import ROOT, Failure, captcha_environment, run, say, shown
from dev.pictures import png, recording, sample
from dev.testkit import captcha, servers
from dev.testkit.chromium import Chromium

IMAGES = ROOT / "docs" / "images"
NAME = "captcha"  # of the topic and the database
COUNTED_SECONDS = 60
PAUSE_SECONDS = 0.2
INCOMPLETE = 4  # the exit code of a report that is not as complete as it is required to be

COMMAND = "captcha report --period 7d --by none --compare previous_period"

# The narrowest page with two columns, because README shows it smaller; in 3 pixels for 2, as screens have them today.
DASHBOARD_WIDTH, SCALE = 1120, 1.5
ROWS = 7  # of sites, below which the page is cut: about as far as the times to solve reach
CUT = f"document.querySelectorAll('.sites tbody tr')[{ROWS - 1}].getBoundingClientRect().bottom + scrollY"

# A reader of README loads both.
PNG_BYTES_MAX = 150_000
SVG_BYTES_MAX = 40_000


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m dev.pictures", description=__doc__)
    captcha.add_program(parser)
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go (default: docs/images)")
    return parser.parse_args()


def carry_out(options, signals):
    given = servers.given("make pictures")
    program = options.program
    settings = given.settings(NAME)
    folder = Path(tempfile.mkdtemp(prefix="captcha-pictures-"))
    sites_file = folder / "sites"
    sites_file.write_text(sample.names_file())
    settings["sites_file"] = sites_file
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        captcha.command(program, "migrate", **given.settings(NAME))
        with (
            captcha.running("consume", program, given.logs / "consume.log", signals, **given.settings(NAME)),
            captcha.serving(program, given.logs / "serve.log", signals, **settings) as port,
            Chromium(folder / "chromium") as browser,
        ):
            made = sample.make(datetime.now(UTC))
            sample.post(port, made)
            wait_counted(program, settings)
            say(f"posted {len(made):,} events of {len(sample.SITES)} sites")
            dashboard(browser, port, options.folder / "dashboard.png")
            report(program, settings, options.folder / "report.svg")
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_counted(program, settings):
    """Until everything that was sent by now is in reports."""
    sent = datetime.now(UTC)
    words = "report", "--by", "none", "--interval", "all", "--require-complete-through", sent.isoformat()
    end = time.monotonic() + COUNTED_SECONDS
    while True:
        code, _, stderr = captcha.attempt(program, *words, environ=captcha_environment(**settings))
        if code == 0:
            return
        if code != INCOMPLETE or time.monotonic() > end:
            raise Failure(f"the events are not counted: {stderr}")
        time.sleep(PAUSE_SECONDS)


def dashboard(browser, port, file):
    page = browser.open()
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.resize(DASHBOARD_WIDTH, DASHBOARD_WIDTH)
    page.go(f"http://127.0.0.1:{port}/v1/dashboard", "light")
    height = round(page.evaluate(CUT))
    page.screenshot(file, DASHBOARD_WIDTH, height, SCALE)
    if page.wrong:
        raise Failure(f"the dashboard: {'; '.join(page.wrong)}")
    file.write_bytes(png.with_palette(file.read_bytes()))
    done(file, PNG_BYTES_MAX, f"{DASHBOARD_WIDTH} by {height} pixels, {SCALE} times")


def report(program, settings, file):
    output = recording.record([program, *shlex.split(COMMAND)[1:]], captcha_environment(**settings))
    file.write_text(recording.draw(COMMAND, output))
    done(file, SVG_BYTES_MAX, f"{len(output.splitlines())} lines")


def done(file, bytes_max, what):
    size = file.stat().st_size
    if size > bytes_max:
        raise Failure(f"{shown(file)} has {size:,} bytes, and at most {bytes_max:,} are wanted")
    say(f"{shown(file)}: {what}, {size:,} bytes")


def main():
    options = arguments()
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    run(main)
