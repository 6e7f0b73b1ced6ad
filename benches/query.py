"""Asks for the playlists of random days out of a year of one stream, among the streams of a busy server."""

import http.client
import random
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from machine import Report, Server, folder_for_data, interrupt

STREAMS = 100
YEAR_DAYS = 365
ASKED = 200
# 2026-01-01: the year that is asked for ends here. It is the same for every run.
END = datetime(2026, 1, 1, tzinfo=timezone.utc)


def run(kinora: str, clips: Path, report: Report) -> None:
    with folder_for_data() as folder:
        data = Path(folder) / "data"
        with Server(kinora, data) as server:
            record_template(server, clips / "bench.mp4")
            for name in ["year", *(f"day-{number}" for number in range(1, STREAMS))]:
                server.post("/v1/streams", {"name": name})
        started = time.monotonic()
        command = ["cargo", "run", "--locked", "--release", "--quiet", "-p", "kinora-store", "--example", "year", "--"]
        subprocess.run([*command, data, "template", str(int(END.timestamp())), str(YEAR_DAYS)], check=True)
        index = (data / "index.db").stat().st_size
        report.figure("index_bytes", index, f"{index / 2**20:.0f} MiB, made in {time.monotonic() - started:.0f} s")
        started = time.monotonic()
        with Server(kinora, data) as server:
            ready = time.monotonic() - started
            report.figure("ready_seconds", ready, f"{ready:.2f} s after the start")
            measure(server, report)


def record_template(server: Server, clip: Path) -> None:
    """Some seconds of a stream, for a block file whose head says what the tracks are."""
    publisher = server.publish(clip, "template", "--tcp", "--loop")
    deadline = time.monotonic() + 60
    while server.get("/hls/template/video.m3u8") is None:
        if time.monotonic() > deadline:
            raise SystemExit("no template after 60 s")
        time.sleep(0.5)
    interrupt(publisher)


def measure(server: Server, report: Report) -> None:
    days = random.Random(1)
    first_bytes, wholes, length = [], [], 0
    connection = http.client.HTTPConnection(server.http.removeprefix("http://"), timeout=60)
    headers = {"authorization": f"Bearer {server.admin}"}
    for _ in range(ASKED):
        start = END - timedelta(days=YEAR_DAYS) + timedelta(seconds=days.randrange((YEAR_DAYS - 1) * 86_400))
        times = [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (start, start + timedelta(days=1))]
        started = time.perf_counter()
        connection.request("GET", f"/hls/year/video.m3u8?from={times[0]}&to={times[1]}", headers=headers)
        answer = connection.getresponse()
        first_bytes.append(time.perf_counter() - started)
        body = answer.read()
        wholes.append(time.perf_counter() - started)
        length = len(body)
        segments = body.count(b".m4s")
        if answer.status != 200 or not 43_199 <= segments <= 43_202:
            raise SystemExit(f"{times}: {answer.status}, {segments} segments: {body[:300]!r}")
    for key, taken in (("first_byte_ms", sorted(first_bytes)), ("whole_ms", sorted(wholes))):
        p50, p99 = taken[len(taken) // 2] * 1e3, taken[len(taken) * 99 // 100] * 1e3
        text = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms: a day of {length / 1e6:.1f} MB, {ASKED} days"
        report.figure(key, {"p50": p50, "p99": p99}, text)
