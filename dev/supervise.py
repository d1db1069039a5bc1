"""Starts children in sessions of their own, waits until they answer, and stops them in order, whatever happens."""

import os
import signal
import subprocess
import sys
import time

from dev import disk, ports, process, ready
from dev.command import DEV, Failure, ending, open_log, program_name, say, shown, start, tail

START_SECONDS = 60
STOP_SECONDS = 15
HURRIED_SECONDS = 1
LOG_LINES = 20
PARENT_SECONDS = 0.5


class Stopped(BaseException):
    """The first SIGINT, SIGTERM or SIGHUP; raised wherever the main thread is."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Signals:
    """The first signal to stop raises Stopped; later ones only hurry the stopping."""

    def __init__(self):
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.take)

    def take(self, number, _frame):
        self.count += 1
        if self.count == 1:
            raise Stopped(number)

    def listen(self):
        """The next signal raises again, after a stop that was only a part of the work."""
        self.count = 0

    def ignore_first(self):
        """From here on signals hurry only; for a stop that is under way for another reason."""
        self.count = max(self.count, 1)

    @property
    def hurried(self):
        return self.count > 1

    def watch_parent(self):
        """Ends with make: when it is gone, and when it alone got a SIGINT, which it keeps from its children."""
        parent = os.getppid()
        catches = process.catches(parent, signal.SIGINT)

        def look(number, frame):
            gone = os.getppid() != parent
            if gone or (catches and not process.catches(parent, signal.SIGINT)):
                self.leave_parent()
                self.take(signal.SIGTERM, frame)

        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, PARENT_SECONDS, PARENT_SECONDS)

    def leave_parent(self):
        """To be called before the end: Python gives up its handlers then, and the timer would kill it."""
        signal.setitimer(signal.ITIMER_REAL, 0)


def to_the_end(work):
    """The exit code of work(signals), which ends with the caller; a signal to stop is told in one line."""
    signals = Signals()
    try:
        process.die_with_parent(os.getppid())
        return work(signals)
    except Stopped as stopped:
        say(f"{program_name()}: interrupted")
        return 128 + stopped.number


class Child:
    """A process that was started here, or by an earlier command and found again by its pid and birth."""

    def __init__(self, name, log, popen=None, pid=None, birth=None, position=0):
        self.name = name
        self.log = log
        self.position = position  # where this start's part of the log begins
        self.popen = popen
        self.pid = popen.pid if popen else pid
        self.birth = birth or process.born(self.pid)
        self.begin = time.monotonic()

    def alive(self):
        if self.popen:
            return self.popen.poll() is None
        return self.birth is not None and process.born(self.pid) == self.birth

    def how_it_ended(self):
        return ending(self.popen.poll()) if self.popen else "ended"

    def send(self, number):
        if self.alive():
            process.signal_to(self.pid, number)


def launch(name, argv, log, background=False, **options):
    """Starts a child out of reach of a terminal's Ctrl-C; it ends when this process does, unless in the background."""
    output = open_log(log)
    position = os.fstat(output).st_size
    try:
        common = dict(stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options)
        popen = subprocess.Popen([str(word) for word in argv], **common) if background else start(argv, **common)
    finally:
        os.close(output)
    return Child(name, log, popen, position=position)


def launch_server(kind, folder, log, lock, background=False, **options):
    """Starts Kafka or ClickHouse; the server holds the lock too, so that its folder counts as in use while it lives."""
    flags = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    argv = [sys.executable, DEV / "server.py", kind, "--dir", folder, "--log", log, *flags]
    return launch(kind, argv, log, background, pass_fds=(lock,))


def wait_ready(child, ask, seconds=START_SECONDS):
    """Waits until ask() gives no reason any more why not; a child that ended, or time that ran out, is a failure."""
    while True:
        reason = ask()
        lasted = time.monotonic() - child.begin
        if reason is None:
            say(f"{child.name}: ready after {lasted:.1f} s (pid {child.pid})")
            return
        need_alive([child])
        if lasted > seconds:
            need_room(child)
            show_log(child)
            why = " ".join(reason.split())
            raise Failure(f"{child.name} was not ready in {seconds:.0f} s: {why}; its log is {shown(child.log)}")
        time.sleep(0.05)


def need_alive(children):
    for child in children:
        if not child.alive():
            need_room(child)
            show_log(child)
            what = f"{child.name} ended by itself ({child.how_it_ended()})"
            raise Failure(f"{what}; its last lines are above, its log is {shown(child.log)}")


def need_room(child):
    """Fails in one line if it was for want of room that the child ended."""
    folder = child.log.parent
    if disk.ran_out(child.log, folder, child.position):
        raise disk.no_space(folder, disk.SERVERS_BYTES, child.name, child.log)


def show_log(child, count=LOG_LINES):
    say(f"--- last lines of {shown(child.log)}")
    for line in tail(child.log, count, child.position):
        say(f"    {line}")


def stop(groups, signals, seconds=STOP_SECONDS):
    """Stops the groups one after the other, the children of a group together. Never leaves one running."""
    signals.ignore_first()
    for group in groups:
        living = [child for child in group if child.alive()]
        for child in living:
            say(f"{child.name}: stopping")
            child.send(signal.SIGTERM)
            child.send(signal.SIGCONT)  # a frozen one would not notice
        begin = time.monotonic()
        while any(child.alive() for child in living):
            if time.monotonic() - begin > (HURRIED_SECONDS if signals.hurried else seconds):
                break
            time.sleep(0.02)
        for child in living:
            if child.alive():
                say(f"{child.name}: did not stop in {time.monotonic() - begin:.0f} s, killed")
                child.send(signal.SIGKILL)
                process.wait_gone(child.pid, child.birth, 5)


def start_servers(data, logs, lock, kafka_port, clickhouse_port, children, background=False, **clickhouse_options):
    """Starts both servers at the same time and waits for both; adds them to `children` as soon as they exist.

    `clickhouse_options` are those of dev/server.py."""
    disk.need(data, disk.SERVERS_BYTES, "the start of kafka and clickhouse")
    http_port = ports.kept(data / "clickhouse" / "http.port")
    kafka = launch_server("kafka", data / "kafka", logs / "kafka.log", lock, background, port=kafka_port)
    children.append(kafka)
    clickhouse = launch_server(
        "clickhouse",
        data / "clickhouse",
        logs / "clickhouse.log",
        lock,
        background,
        port=clickhouse_port,
        http_port=http_port,
        **clickhouse_options,
    )
    children.append(clickhouse)
    wait_ready(clickhouse, lambda: ready.clickhouse(http_port))
    wait_ready(kafka, lambda: ready.kafka(kafka_port))


def need_free_ports(target, wanted, usual):
    """Fails if ports are taken, and names all of them; `wanted` maps the names of make variables to the ports of this
    make target, `usual` to those without a choice."""
    taken = [name for name, port in wanted.items() if not ports.is_free(port)]
    twice = {name for name, port in wanted.items() if list(wanted.values()).count(port) > 1}
    if not taken and not twice:
        return
    given = [name for name in wanted if wanted[name] != usual[name] and name not in taken]
    chosen = {name: wanted[name] for name in given if name not in twice}
    others = [name for name in wanted if name in taken or name in twice]
    free = [port for port in ports.pick(len(wanted) + len(others)) if port not in wanted.values()]
    chosen |= dict(zip(others, free, strict=False))
    make = " ".join(f"{name}={chosen[name]}" for name in wanted if name in chosen)
    other = f'eval "$(make -s up {make})"' if target == "up" else f"make {target} {make}"
    if taken:
        numbers = ", ".join(str(port) for port in dict.fromkeys(wanted[name] for name in taken))
        what = f"the port is in use: {numbers}" if len(taken) == 1 else f"the ports are in use: {numbers}"
        raise Failure(f"cannot listen on 127.0.0.1, {what}; choose others, as in: {other}")
    same = ", ".join(f"{name}={wanted[name]}" for name in wanted if name in twice)
    raise Failure(f"the ports must differ: {same}; choose others, as in: {other}")
