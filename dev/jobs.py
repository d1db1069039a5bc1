"""Programs that run at the same time while the caller waits for all of them, with one line of progress for all."""

import subprocess
import time

from dev.command import Failure, ending, open_log, say, say_over, start, tail

STEP_SECONDS = 0.2


class Job:
    """One program. The last line that it wrote says how far it is, how it ended, and why it failed."""

    def __init__(self, argv, log, **options):
        self.argv = argv
        self.log = log
        self.options = options
        self.child = None
        self.begin = None

    def start(self):
        self.log.unlink(missing_ok=True)
        output = open_log(self.log)
        options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **self.options}
        self.child = start(self.argv, **options)
        self.begin = time.monotonic()

    def progress(self):
        """How far it is, in a few words; nothing if there is nothing to say."""
        return "".join(tail(self.log, 1))

    def done(self):
        return self.progress()

    def failure(self, code):
        _program, _, why = self.progress().partition(": ")
        return Failure(why or f"{self.argv[0]} failed ({ending(code)})")


def together(jobs):
    """Runs the jobs. The first one that fails ends the others; so does an interrupt."""
    begin = time.monotonic()
    running = []
    try:
        for job in jobs:
            job.start()
            running.append(job)
        while running:
            time.sleep(STEP_SECONDS)
            for job in list(running):
                code = job.child.poll()
                if code is not None:
                    running.remove(job)
                    end(job, code)
            parts = [job.progress() for job in running]
            say_over("  ".join([f"{time.monotonic() - begin:3.0f} s", *filter(None, parts)]))
    finally:
        say_over("")
        for job in running:
            job.child.terminate()
        for job in running:
            job.child.wait()


def end(job, code):
    say_over("")
    if code != 0:
        raise job.failure(code)
    done = job.done()
    if done:
        say(f"{done} ({time.monotonic() - job.begin:.0f} s)")
