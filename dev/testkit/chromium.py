"""Chromium without a window, driven over its DevTools protocol through a pair of pipes."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

from dev.command import Failure

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_SECONDS = 30
POLL_SECONDS = 0.05

FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # root has none; only our own server's pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

ADVICE = "GenericIssue"  # on forms: the inputs of Swagger UI have no names

# Chromium reads commands from descriptor 3 and writes to 4, which other things may occupy until exec.
LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
DESCRIPTORS_FROM = 10

# The code of a key, and the text that it makes.
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "Escape": (27, "")}


def find():
    for name in PROGRAMS:
        program = shutil.which(name)
        if program:
            return program
    raise Failure("chromium is not installed or not on the PATH; install it (Debian: apt-get install chromium)")


class Chromium:
    """A browser with a profile of its own; `with` ends it and all of its processes."""

    def __init__(self, folder):
        self.folder = folder
        self.ids = itertools.count(1)
        self.buffer = b""
        self.pages = {}

    def __enter__(self):
        self.folder.mkdir(parents=True)
        theirs, ours = zip(high_pipe(), reversed(high_pipe()), strict=True)
        self.reader, self.writer = ours[1], ours[0]
        command = [find(), *FLAGS, f"--user-data-dir={self.folder / 'profile'}"]
        with open(self.folder / "chromium.log", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, *map(str, theirs), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=theirs,
                start_new_session=True,
            )
        for descriptor in theirs:
            os.close(descriptor)
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.reader)
        os.close(self.writer)

    def open(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Network", "Log", "Runtime", "Page", "Audits"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        return page

    def call(self, method, session=None, **parameters):
        """The answer to a command; events that come before it go to their pages."""
        number = next(self.ids)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self.writer, left) :]
        end = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self.receive(end)
            if answer is None:
                raise Failure(f"chromium did not answer {method} in {ANSWER_SECONDS} s")
            if answer.get("id") == number:
                if "error" in answer:
                    raise Failure(f"chromium refused {method}: {answer['error'].get('message')}")
                return answer["result"]

    def receive(self, end):
        """The next message, or None when the time is up; an event is given to its page too."""
        while b"\0" not in self.buffer:
            if not select.select([self.reader], [], [], max(0, end - time.monotonic()))[0]:
                return None
            piece = os.read(self.reader, 1 << 16)
            if not piece:
                log = (self.folder / "chromium.log").read_text(errors="replace").strip().splitlines()
                raise Failure(f"chromium ended by itself: {log[-1] if log else 'it printed nothing'}")
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(line)
        page = self.pages.get(message.get("sessionId"))
        if page and "method" in message:
            page.hear(message["method"], message["params"])
        return message


class Page:
    """A page, every address that it asked for, and everything that was wrong with it."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.addresses = []
        self.wrong = []
        self.loads = 0

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def go(self, address, scheme="light"):
        """Opens an address in a light or dark theme."""
        self.emulate(scheme)
        before = self.loads
        failed = self.call("Page.navigate", url=address).get("errorText")
        if failed:
            raise Failure(f"chromium cannot open {address}: {failed}")
        self.wait_load(before, address)

    def emulate(self, scheme="light", media="", forced_colors=False):
        """The theme that the reader's system has, and the kind of device."""
        features = {"prefers-color-scheme": scheme, "forced-colors": "active" if forced_colors else "none"}
        listed = [{"name": name, "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=listed)

    def wait_load(self, before, what):
        """Waits until a page was loaded after `before` others."""
        end = time.monotonic() + ANSWER_SECONDS
        while self.loads == before:
            if self.browser.receive(end) is None and time.monotonic() > end:
                raise Failure(f"{what}: no page was loaded in {ANSWER_SECONDS} s")

    def hear(self, method, event):
        if method == "Network.requestWillBeSent":
            self.addresses.append(event["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Network.responseReceived" and event["response"]["status"] >= 400:
            self.wrong.append(f"{event['response']['url']} was answered {event['response']['status']}")
        elif method == "Network.loadingFailed":
            self.wrong.append(f"a request failed: {event.get('blockedReason') or event['errorText']}")
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("warning", "error"):
            self.wrong.append(f"{event['entry']['level']}: {event['entry']['text']}")
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("warning", "error", "assert"):
            said = (str(argument.get("value", argument.get("description"))) for argument in event["args"])
            self.wrong.append(f"console {event['type']}: {' '.join(said)}")
        elif method == "Runtime.exceptionThrown":
            thrown = event["exceptionDetails"]
            self.wrong.append(f"exception: {thrown.get('exception', {}).get('description', thrown['text'])}")
        elif method == "Audits.issueAdded" and event["issue"]["code"] != ADVICE:
            self.wrong.append(f"issue: {event['issue']['code']}")

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Failure(f"chromium: {answer['exceptionDetails']['exception']['description']} in {script}")
        return answer["result"].get("value")

    def wait(self, what, script, wanted):
        """Waits until the script gives what is wanted."""
        end = time.monotonic() + ANSWER_SECONDS
        while (found := self.evaluate(script)) != wanted:
            if time.monotonic() > end:
                raise Failure(f"{what}: expected {wanted!r}, found {found!r} after {ANSWER_SECONDS} s")
            self.browser.receive(time.monotonic() + POLL_SECONDS)

    def click(self, element, what):
        """Clicks in the middle of an element, a JavaScript expression, if nothing covers it there."""
        place = self.evaluate(
            f"""(() => {{
                const element = {element};
                if (!element) return null;
                element.scrollIntoView({{block: "center", inline: "center"}});
                const box = element.getClientRects()[0];
                if (!box) return null;
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const there = document.elementFromPoint(x, y);
                const hit = there && (element.contains(there) || there.contains(element));
                return [x, y, hit ? null : String(there && there.outerHTML.slice(0, 120))];
            }})()"""
        )
        if place is None:
            raise Failure(f"{what}: not on the page, or not visible: {element}")
        x, y, covered_by = place
        if covered_by:
            raise Failure(f"{what}: covered by {covered_by}")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def follow(self, element, what):
        """Clicks on what opens another page, and waits for that."""
        before = self.loads
        self.click(element, what)
        self.wait_load(before, what)

    def press(self, key, shift=False):
        code, text = KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        """Types a text in place of what the focused field has."""
        self.evaluate("document.activeElement.select()")
        self.call("Input.insertText", text=text)

    def resize(self, width, height, scale=1):
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self.call("Emulation.setDeviceMetricsOverride", mobile=False, **size)

    def html(self):
        """The document as it is now; also with scripts off."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        return self.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def screenshot(self, file, width, height, scale=1):
        self.resize(width, height, scale)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def whole_screenshot(self, file):
        """All of the page, at the width that it has."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(picture["data"]))


def high_pipe():
    """Both ends of a pipe, out of the way of the descriptors 3 and 4."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, DESCRIPTORS_FROM) for end in ends]
    for end in ends:
        os.close(end)
    return high
