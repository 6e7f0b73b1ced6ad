#!/usr/bin/env python3
"""The n-th write, sync, open or rename of the real program fails: no lie, no panic, recovery unaided.

    tests/faults/system_calls.py KINORA CLIPS [FILTER]

The server runs under strace, which makes one kind of call on one set of files fail: blocks (appended by `pwritev`, which
nothing else uses), databases, the folders, and whatever a first start makes. A camera pushes meanwhile. Everything that
was listed until the kill must be there after a clean start, equal to the byte; after a fault that passes, new fragments must come
with nobody's help; and the trace must show that a file whose write or sync failed was never written or synced again (D3).

strace counts calls per thread, so "the n-th" may strike once in each of them: more faults than asked for, never fewer.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kinora import Camera, Died, Server, store_check, wait_for

TRACED = "pwritev,pwrite64,fdatasync,fsync,openat,rename,renameat,renameat2"
# Faults that stay: the disk is dead, or full, from the n-th call on.
LASTING = "+"
# Blocks of the second life that may be opened while it lasts.
SEQUENCES = range(1, 60)

kinora, clips = sys.argv[1:3]
wanted = sys.argv[3] if len(sys.argv) > 3 else ""


@dataclass(frozen=True)
class Case:
    """Which calls on which files fail, how, and when."""

    where: str
    calls: str
    error: str
    when: str

    def __str__(self) -> str:
        return f"{self.where} {self.calls} {self.error} {self.when}"


class Outcome:
    """What the runs came to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = self.struck = self.refused = self.resumed = 0


outcome = Outcome()


def blocks(folder: Path) -> list[Path]:
    return [folder / f"{2:08}-{sequence:013}{ending}" for sequence in SEQUENCES for ending in (".mp4", ".idx", ".idx.tmp")]


def databases(data: Path, *names: str) -> list[Path]:
    return [data / f"{name}{ending}" for name in names for ending in ("", "-wal", "-shm", "-journal")]


def tracer(case: Case, paths: list[Path], trace: Path) -> list[str]:
    chosen = [argument for path in paths for argument in ("-P", str(path))]
    fault = f"inject={case.calls}:error={case.error}:when={case.when}"
    return ["strace", "-f", "-y", "-qq", "-s", "0", "--seccomp-bpf", "-o", str(trace), *chosen, "-e", f"trace={TRACED}", "-e", fault]


CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")


def judge_trace(trace: Path) -> int:
    """D3: no write and no sync goes to a block after one of them failed. Returns the faults that struck."""
    struck, begun, failed = 0, {}, set()
    for line in trace.read_text(errors="replace").splitlines():
        if call := CALL.match(line):
            pid, name, rest = call.groups()
            if rest.endswith("<unfinished ...>"):
                begun[pid] = rest
        elif call := RESUMED.match(line):
            pid, name, tail = call.groups()
            rest = begun.pop(pid, "") + tail
        else:
            continue
        struck += "(INJECTED)" in line
        if name == "openat" and "O_CREAT" in rest and " = -1 " not in rest:
            for path in list(failed):
                # The failed file was unlinked before anybody was told of it; this is another one.
                if f'"{path}"' in rest or rest.rstrip().endswith(f"<{path}>"):
                    failed.discard(path)
        file = DESCRIPTOR.match(rest)
        if name not in ("pwritev", "fdatasync") or not file or not file[1].endswith(".mp4"):
            continue
        assert file[1] not in failed, f"{file[1]} was used after it had failed: {line}"
        if " = -1 " in rest:
            failed.add(file[1])
    return struck


def after_the_fault(server: Server, camera: Camera, known: dict) -> None:
    """New fragments come, with nobody's help."""
    wait_for("recording to go on by itself", 40, lambda: len(set(server.fragments("cam")) - set(known)) > 1)
    outcome.resumed += 1


def run_at_work(case: Case) -> None:
    """The fault meets a server at work: the second life of a folder with a stream in it."""
    folder = Path(tempfile.mkdtemp(prefix="kinora-faults-"))
    data = folder / "data"
    server = Server(kinora, data)
    secret = server.secret()
    with server.push(secret, f"{clips}/plain.mp4", "cam", "--loop"):
        wait_for("a first fragment", 20, lambda: server.call("GET", "/v1/streams/cam")[0] == 200 and server.fragments("cam"))
    assert server.stop() == 0
    stream = next(path for path in (data / "streams").iterdir())
    paths = {
        "blocks": blocks(stream),
        "folder": [stream],
        "databases": databases(data, "index.db", "control.db"),
        "everything": [*blocks(stream), stream, data / "streams", data, *databases(data, "index.db", "control.db")],
    }[case.where]
    trace = folder / "trace"
    listed, segments = {}, {}
    try:
        server = Server(kinora, data, "[storage]\nblock_duration = \"2s\"\nsweep_interval = \"1s\"\n", tracer(case, paths, trace))
    except Died as end:
        assert "panicked" not in str(end), str(end)
        outcome.refused += 1
    else:
        camera = server.push(secret, f"{clips}/plain.mp4", "cam", "--loop")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            listed |= server.fragments("cam")
            time.sleep(0.2)
        if not case.when.endswith(LASTING):
            after_the_fault(server, camera, listed)
        segments = server.segments("cam")
        listed |= server.fragments("cam")
        assert "panicked" not in server.log(), server.log()
        server.kill()
        camera.stop()
    struck = judge_trace(trace)
    server = Server(kinora, data)
    now = server.fragments("cam")
    missing = [number for number, fragment in listed.items() if now.get(number) != fragment]
    assert not missing, f"listed before, missing or changed after: {missing}"
    after = server.segments("cam")
    missing = [path for path, digest in segments.items() if after.get(path) != digest]
    assert not missing, f"listed before, missing or changed after: {missing}"
    assert "panicked" not in server.log(), server.log()
    assert server.stop() == 0
    store_check(kinora, data)
    with outcome.lock:
        outcome.struck += struck > 0
    shutil.rmtree(folder)


def run_at_start(case: Case, names: list[str]) -> None:
    """The fault meets a first start: it ends with a clear error or serves, and the next start serves."""
    folder = Path(tempfile.mkdtemp(prefix="kinora-faults-"))
    data = folder / "data"
    trace = folder / "trace"
    try:
        server = Server(kinora, data, "", tracer(case, [data / name for name in names], trace))
    except Died as end:
        assert "panicked" not in str(end), str(end)
        reason = str(end).strip().splitlines()[-1:]
        # The loader speaks for a program that could not even begin.
        assert reason and ("kinora: " in reason[0] or "shared libraries" in reason[0]), f"no reason was given: {end}"
        with outcome.lock:
            outcome.refused += 1
    else:
        server.kill()
    struck = "(INJECTED)" in trace.read_text(errors="replace")
    server = Server(kinora, data)
    secret = server.secret()
    with server.push(secret, f"{clips}/plain.mp4", "cam", "--loop"):
        wait_for("a fragment", 20, lambda: server.call("GET", "/v1/streams/cam")[0] == 200 and server.fragments("cam"))
    assert server.stop() == 0
    store_check(kinora, data)
    with outcome.lock:
        outcome.struck += struck
    shutil.rmtree(folder)


def names_of_a_first_start() -> list[str]:
    """Everything that a first start opens or names in its folder."""
    folder = Path(tempfile.mkdtemp(prefix="kinora-faults-"))
    data, trace = folder / "data", folder / "trace"
    Server(kinora, data, "", ["strace", "-f", "-qq", "-s", "500", "-o", str(trace), "-e", "trace=openat,rename,renameat2"]).kill()
    found = set(re.findall(rf'"{re.escape(str(data))}/?([^"]*)"', trace.read_text()))
    shutil.rmtree(folder)
    return sorted(found)


def run(case: Case, names: list[str]) -> None:
    try:
        run_at_start(case, names) if case.where == "start" else run_at_work(case)
    except BaseException as error:
        with outcome.lock:
            outcome.failed += 1
        print(f"FAILED: {case}: {error}", flush=True)
    else:
        with outcome.lock:
            outcome.passed += 1
        print(f"ok: {case}", flush=True)


cases = [
    Case(where, calls, error, when)
    for where, calls, whens in [
        ("blocks", "pwritev", ["1", "2", "3", "2+"]),
        ("blocks", "fdatasync", ["1", "2", "3", "1+"]),
        ("blocks", "openat", ["1", "2", "3", "1+"]),
        ("blocks", "fdatasync,rename", ["1"]),
        ("folder", "fsync", ["1", "2", "3", "2+"]),
        ("folder", "openat", ["1", "3"]),
        ("databases", "pwrite64", ["1", "2", "3", "5", "8", "6+"]),
        ("databases", "fdatasync", ["1", "2", "3", "3+"]),
        ("databases", "openat", ["2", "4"]),
        ("everything", "pwritev,pwrite64,fdatasync,fsync", ["9+"]),
        ("start", "openat", [str(n) for n in range(1, 13)]),
        ("start", "pwritev,pwrite64", [str(n) for n in range(1, 9)]),
        ("start", "fdatasync,fsync", [str(n) for n in range(1, 9)]),
        ("start", "rename,renameat,renameat2", ["1", "2", "3"]),
    ]
    for error in ("EIO", "ENOSPC")
    for when in whens
]
names = names_of_a_first_start()
chosen = [case for case in cases if wanted in str(case)]
with ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda case: run(case, names), chosen))
print(f"system calls: {outcome.passed} passed, {outcome.failed} failed; the fault struck in {outcome.struck}, "
      f"ended a start with a clear error in {outcome.refused}, and recording went on by itself in {outcome.resumed}")
sys.exit(1 if outcome.failed or (not wanted and outcome.struck < len(chosen) * 3 // 4) else 0)
