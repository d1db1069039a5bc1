"""What the commands in this folder share: where things are, how they speak, and how they fail."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from dev import process

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / "dev"
STATE = ROOT / ".dev"

LOG_BYTES = 10 * 10**6


class Failure(Exception):
    """Foreseeable trouble, told in one line."""


def say(text):
    """Progress goes to stderr: stdout is for what a caller reads. A closed terminal is no reason to stop."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def say_over(text):
    """Rewrites the current line of a terminal, as much as fits in it; elsewhere nothing."""
    try:
        if sys.stderr.isatty():
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print("\r\033[K" + text[: columns - 1], end="", file=sys.stderr, flush=True)
    except OSError:
        pass


def shown(path):
    """The path as short as it can be typed where the command was started."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def step(what, argv, log, progress=None, **options):
    """Runs a command with its output in the file `log`, and shows how long it runs, or what progress() says."""
    say(f"{what} ...") if not sys.stderr.isatty() else None
    begin = time.monotonic()
    with open(log, "wb") as output:
        child = start(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
        try:
            while True:
                if progress:
                    say(progress())
                say_over(f"{what} ... {time.monotonic() - begin:.0f} s")
                try:
                    code = child.wait(0.5)
                    break
                except subprocess.TimeoutExpired:
                    pass
        except BaseException:
            child.terminate()
            child.wait()
            raise
        finally:
            say_over("")
    if code != 0:
        raise Failure(f"{what}: {argv[0]} failed ({ending(code)}): {last_words(log)}")
    say(f"{what}: done in {time.monotonic() - begin:.1f} s")


def start(argv, **options):
    """A child process that ends with this one, where the system can do that."""
    me = os.getpid()
    try:
        words = [str(word) for word in argv]
        return subprocess.Popen(words, preexec_fn=lambda: process.die_with_parent(me), **options)  # noqa: PLW1509
    except FileNotFoundError:
        raise Failure(f"cannot run {argv[0]}: it is not installed, or not on the PATH") from None
    except OSError as error:
        raise Failure(f"cannot run {argv[0]}: {error.strerror}") from None


def ending(code):
    """How a process ended, in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def open_log(path):
    """Opens a log for adding to it; one that has grown large becomes the one older log that is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def tail(path, count, begin=0):
    """The last lines of a text file that may be large or missing; none from before the position `begin`."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin if begin <= size else 0, size - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def last_words(log):
    """The two lines of a failed command's output that most likely say why."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip()[:300] for line in tail(log, 60)]
    lines = list(dict.fromkeys(line for line in lines if line))
    telling = [line for line in lines if re.search("error|exception|cannot", line, re.IGNORECASE)]
    return "; ".join(telling[:2] or lines[-1:] or ["it printed nothing"])


def write(path, text):
    """Replaces the file in one step: a kill leaves the old or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def utf8_environment():
    """The environment for Java, which reads the names of files as UTF-8 only where the locale says so."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def captcha_environment(**settings):
    """The environment with these settings of captcha alone, whatever the caller's own CAPTCHA_ variables say."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CAPTCHA_")}
    return environ | {f"CAPTCHA_{name.upper()}": str(value) for name, value in settings.items()}


def program_name():
    """The name of this program, for what it says; a package that is run is called by its own name."""
    path = Path(sys.argv[0])
    return path.parent.name if path.name == "__main__.py" else path.name


def run(main):
    """Ends the program with main's exit code, or with one line for foreseeable trouble."""
    name = program_name()
    try:
        code = main()
    except Failure as failure:
        say(f"{name}: {failure}")
        code = 1
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        code = 130
    except OSError as error:
        where = f" {shown(error.filename)}" if error.filename else ""
        say(f"{name}: cannot use{where}: {error.strerror or error}")
        code = 1
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
