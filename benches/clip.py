"""Takes clips of an hour and of ten hours out of a long archive: how soon they start, and what memory they take."""

import json
import subprocess
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from machine import Report, Server, folder_for_data, interrupt, rss_bytes

HOURS = 10
FIRST_BYTE_MAX = 1.0
GROWTH_MAX_MIB = 64
# 2026-01-01: the archive ends here. It is the same for every run.
END = datetime(2026, 1, 1, tzinfo=timezone.utc)
CONFIG = """
[log]
filter = "warn"
[storage]
soft_free_permille = 20
hard_free_permille = 10
"""


def run(kinora: str, clips: Path, report: Report) -> None:
    with folder_for_data() as folder:
        data = Path(folder) / "data"
        with Server(kinora, data, CONFIG) as server:
            publisher = server.publish(clips / "demo.mp4", "template", "--tcp", "--loop")
            deadline = time.monotonic() + 60
            while len(fragments(server, "template")) < 15:
                if time.monotonic() > deadline:
                    raise SystemExit("no template after 60 s")
                time.sleep(0.5)
            interrupt(publisher)
            server.post("/v1/streams", {"name": "film"})
        started = time.monotonic()
        command = ["cargo", "run", "--locked", "--release", "--quiet", "-p", "kinora-store", "--example", "archive", "--"]
        subprocess.run([*command, data, "template", "film", str(int(END.timestamp())), str(HOURS)], check=True)
        report.figure("archive", HOURS, f"{HOURS} hours, made in {time.monotonic() - started:.0f} s")
        with Server(kinora, data, CONFIG) as server:
            hour(server, report)
        with Server(kinora, data, CONFIG) as server:
            all_hours(server, report)


def fragments(server: Server, stream: str) -> list:
    answer = server.get(f"/v1/streams/{stream}/fragments")
    return json.loads(answer)["fragments"] if answer else []


def address(start: datetime, hours: int) -> str:
    # In the middle of a group of pictures, so that the clip has something to hide.
    start += timedelta(milliseconds=412)
    times = [f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for at in (start, start + timedelta(hours=hours))]
    return f"/v1/streams/film/clip.mp4?from={times[0]}&to={times[1]}"


def first_byte(server: Server, path: str) -> float:
    started = time.perf_counter()
    with server.request(path) as answer:
        answer.read(1)
        return time.perf_counter() - started


def take(server: Server, path: str) -> tuple[float, float, int, list[int]]:
    """Seconds to the first byte and to the last, bytes, and the resident size while it came."""
    sizes, done = [rss_bytes(server.pid)], threading.Event()

    def watch():
        while not done.wait(0.1):
            sizes.append(rss_bytes(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, length = time.perf_counter(), 0
    with server.request(path) as answer:
        length += len(answer.read(1))
        first = time.perf_counter() - started
        while part := answer.read(1 << 20):
            length += len(part)
        expected = int(answer.headers["content-length"])
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if length != expected:
        raise SystemExit(f"{path}: {length} bytes of {expected}")
    return first, seconds, length, sizes


def hour(server: Server, report: Report) -> None:
    starts = [END - timedelta(hours=HOURS - number, minutes=-17) for number in range(HOURS - 1)]
    taken = [first_byte(server, address(start, 1)) for start in starts]
    text = f"{max(taken) * 1e3:.0f} ms at most of {len(taken)} hours, at most {FIRST_BYTE_MAX * 1e3:.0f} ms"
    report.bar("hour_first_byte", max(taken), FIRST_BYTE_MAX, text)
    again = first_byte(server, address(starts[-1], 1))
    report.figure("hour_again", again, f"{again * 1e3:.0f} ms when it is asked for again")
    _, seconds, length, sizes = take(server, address(starts[0], 1))
    text = f"{length / 1e6:.0f} MB in {seconds:.1f} s, resident {sizes[0] / 2**20:.0f} to {max(sizes) / 2**20:.0f} MiB"
    report.figure("hour_whole", {"seconds": seconds, "bytes": length, "rss": [sizes[0], max(sizes)]}, text)


def all_hours(server: Server, report: Report) -> None:
    path = address(END - timedelta(hours=HOURS), HOURS)
    first, seconds, length, sizes = take(server, path)
    report.figure("all_first_byte", first, f"{first * 1e3:.0f} ms for {HOURS} hours")
    text = f"{length / 1e9:.1f} GB in {seconds:.0f} s, {length / 1e6 / seconds:.0f} MB/s"
    report.figure("all_whole", {"seconds": seconds, "bytes": length}, text)
    grown = (max(sizes) - sizes[0]) / 2**20
    half = (max(sizes[len(sizes) // 2 :]) - max(sizes[: len(sizes) // 2])) / 2**20
    text = f"{grown:.0f} MiB, at most {GROWTH_MAX_MIB}: {sizes[0] / 2**20:.0f} to {max(sizes) / 2**20:.0f} MiB"
    report.bar("all_memory_growth", grown, GROWTH_MAX_MIB, text)
    report.figure("all_second_half", half, f"{half:+.1f} MiB more at most in the second half than in the first")
