"""Turns this process into a ClickHouse server with the engine of a Python package of chdb: `clickhouse-engine.py ENGINE
CONFIG DATA`, the folder of the unpacked package, a config file that is named config.xml, and the folder of the data.

Packages up to 25.8 still hold the whole server, which is called by its name. Newer ones hold clickhouse-local alone and
give no arguments to it, but it reads a config.xml where it runs, and listens when it is asked to. It ends with its last
statement, so that one reads standard input, which is a pipe that only this process can write to: closing the pipe ends
it in order, as SIGTERM ends the server. Exit codes: 0 shut down in order, 1 the engine ended by itself, 2 it did not
start."""

import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

SERVER = "_Z25mainEntryClickHouseServeriPPc"  # mainEntryClickHouseServer(int, char **)
SHUTDOWN_SECONDS = 20
LISTEN = (
    "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP;"
    " SELECT count() FROM file('-', 'LineAsString', 'line String') SETTINGS max_execution_time = 0 FORMAT Null"
)


def run_server(main, config):
    os.environ["CLICKHOUSE_WATCHDOG_ENABLE"] = "0"  # the process that is started is to be the server
    words = [b"clickhouse-server", b"--config-file=" + os.fsencode(config)]
    return main(len(words), (ctypes.c_char_p * (len(words) + 1))(*words))


def run_local(engine, config, data):
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)  # in the threads of the engine too
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    stopping = threading.Event()

    def stop():
        signal.sigwait(stop_signals)
        stopping.set()
        signal.alarm(SHUTDOWN_SECONDS)  # which kills
        os.close(writing)

    threading.Thread(target=stop, daemon=True).start()
    os.chdir(config.parent)
    sys.path.insert(0, str(engine / "chdb"))
    import _chdb

    _chdb.set_signal_handlers_enabled(0)
    _chdb.query(LISTEN, "TabSeparated", path=str(data))
    return 0 if stopping.is_set() else 1


def main():
    engine, config, data = (Path(word) for word in sys.argv[1:])
    try:
        library = ctypes.CDLL(str(engine / "chdb" / "_chdb.abi3.so"), os.RTLD_NOW | os.RTLD_GLOBAL)
    except OSError as error:
        print(f"clickhouse-engine.py: cannot load the engine: {error}; remove {engine}", file=sys.stderr)
        return 2
    if hasattr(library, SERVER):
        return run_server(getattr(library, SERVER), config)
    return run_local(engine, config, data)


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except Exception as error:
        print(f"clickhouse-engine.py: the engine ended: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)  # not sys.exit(): destructors would run under threads that the engine may still have
