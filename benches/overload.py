"""Asks for more pictures than can be made, and kills decoders, while cameras record: recording must not notice."""

import os
import random
import signal
import socket
import threading
import time
import urllib.error
from collections import Counter
from pathlib import Path

from machine import Report, Server, folder_for_data, interrupt, percentiles, rss_bytes

STREAMS = 8
SECONDS = 20
REQUESTS = 500
SLOWER_MAX = 1.10
MEMORY_MAX_MIB = 1024
HISTOGRAM = "kinora_fragment_ack_seconds"
CONFIG = """
[log]
filter = "error"
[storage]
soft_free_permille = 20
hard_free_permille = 10
[pictures]
remembered_bytes = "0B"
"""


def run(kinora: str, clips: Path, report: Report) -> None:
    with folder_for_data() as folder, Server(kinora, Path(folder) / "data", CONFIG) as server:
        publisher = server.publish(clips / "bench.mp4", "camera", "--streams", str(STREAMS), "--tcp", "--loop")
        wait_until_recording(server)
        # A decoder's first start looks at every plug-in.
        server.get("/v1/streams/camera-1/frames?at=latest&width=64")
        alone = acknowledgements(server, lambda _: None, report, "alone")
        for name, trouble in (("500_at_once", flood), ("decoders_killed", kill), ("client_does_not_read", idle_reader)):
            mean = acknowledgements(server, trouble, report, name)
            ratio = mean / alone
            report.bar(f"{name}_ratio", ratio, SLOWER_MAX, f"{ratio:.2f} times the mean before, at most {SLOWER_MAX}")
        answered = server.get("/v1/streams/camera-1/frames?at=latest&width=64")
        report.bar("picture_after", 0 if answered else 1, 0, "pictures come again" if answered else "none came")
        interrupt(publisher)


def wait_until_recording(server: Server) -> None:
    deadline = time.monotonic() + 60
    while any(server.get(f"/hls/camera-{number}/video.m3u8") is None for number in range(1, STREAMS + 1)):
        if time.monotonic() > deadline:
            raise SystemExit("after 60 s not every camera is recorded")
        time.sleep(1)
    time.sleep(5)


def acknowledgements(server: Server, trouble, report: Report, name: str) -> float:
    """Mean milliseconds from a fragment's close to its acknowledgement while there is trouble; and what memory it took."""
    over, sizes = threading.Event(), []
    before = server.metrics()
    worker = threading.Thread(target=trouble, args=((server, over, report, name),))
    worker.start()
    started = time.monotonic()
    while time.monotonic() - started < SECONDS:
        time.sleep(0.2)
        sizes.append(rss_bytes(server.pid) + sum(map(rss_or_none, decoders(server))))
    over.set()
    worker.join()
    after = server.metrics()
    total = {kind: sum_of(after, kind) - sum_of(before, kind) for kind in ("sum", "count")}
    mean = total["sum"] / total["count"] * 1e3
    taken = percentiles(before, after, HISTOGRAM)
    text = f"{mean:.1f} ms mean, " + ", ".join(f"{key} {value:.1f} ms" for key, value in taken.items())
    report.figure(f"{name}_ack", {"mean": mean, **taken}, text)
    most = max(sizes) / 2**20
    report.bar(f"{name}_memory", most, MEMORY_MAX_MIB, f"{most:.0f} MiB with the decoders, at most {MEMORY_MAX_MIB}")
    return mean


def sum_of(metrics: dict[str, float], kind: str) -> float:
    return sum(value for sample, value in metrics.items() if sample.partition("{")[0] == f"{HISTOGRAM}_{kind}")


def decoders(server: Server) -> list[int]:
    found = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        try:
            found += [int(pid) for pid in (task / "children").read_text().split()]
        except FileNotFoundError:
            continue
    return found


def rss_or_none(pid: int) -> int:
    """What a decoder holds besides the memory that it shares with the server, whose it is."""
    try:
        return rss_bytes(pid) - rss_bytes(pid, "RssShmem")
    except (FileNotFoundError, StopIteration):
        return 0


def flood(trouble) -> None:
    """Five hundred requests at once, again and again, each for a picture of its own."""
    server, over, report, name = trouble
    answers: Counter = Counter()

    def ask(number: int) -> None:
        path = f"/v1/streams/camera-{number % STREAMS + 1}/frames?at=latest&width={100 + number}"
        try:
            with server.request(path) as answer:
                answer.read()
                answers[answer.status] += 1
        except urllib.error.HTTPError as error:
            answers[error.code] += 1
        except OSError as error:
            answers[type(error).__name__] += 1

    while not over.is_set():
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(REQUESTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    text = ", ".join(f"{count} times {answer}" for answer, count in answers.most_common())
    report.figure(f"{name}_answers", dict((str(key), count) for key, count in answers.items()), text)


def kill(trouble) -> None:
    """Decoders that are killed or stopped at random while pictures are asked for."""
    server, over, report, name = trouble
    answers: Counter = Counter()
    chance = random.Random(7)
    struck = 0

    def ask() -> None:
        while not over.is_set():
            try:
                with server.request("/v1/streams/camera-1/frames?at=latest") as answer:
                    answer.read()
                    answers[answer.status] += 1
            except urllib.error.HTTPError as error:
                answers[error.code] += 1

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    while not over.wait(0.7):
        for pid in decoders(server)[:1]:
            try:
                os.kill(pid, chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP]))
                struck += 1
            except ProcessLookupError:
                continue
    for thread in asking:
        thread.join()
    text = f"{struck} struck; " + ", ".join(f"{count} times {answer}" for answer, count in answers.most_common())
    report.figure(f"{name}_answers", {"struck": struck, **{str(key): count for key, count in answers.items()}}, text)


def idle_reader(trouble) -> None:
    """Clients that ask for everything raw and read nothing, while others ask for a picture."""
    server, over, report, name = trouble
    address = server.http.removeprefix("http://").split(":")
    request = (
        "GET /v1/streams/camera-1/frames?from=0&to=4102444800000&format=rgb HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {server.admin}\r\n\r\n"
    )
    idle = [socket.create_connection((address[0], int(address[1]))) for _ in range(4)]
    for one in idle:
        one.sendall(request.encode())
    times = []
    while not over.wait(0.5):
        started = time.monotonic()
        server.get("/v1/streams/camera-2/frames?at=latest&width=320")
        times.append(time.monotonic() - started)
    for one in idle:
        one.close()
    times.sort()
    middle = times[len(times) // 2] * 1e3
    report.figure(f"{name}_others", middle, f"{len(times)} others' pictures, half of them within {middle:.0f} ms")
