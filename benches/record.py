"""Records many cameras at once and counts what it took, and whether every frame is there."""

import json
import time
from pathlib import Path

from machine import CORES, Report, Server, busy_seconds, cpu_seconds, folder_for_data, interrupt, percentiles, rss_bytes

STREAMS = 200
SECONDS = 60
SHARE_MAX = 0.70
# The disk of a developer's machine may be nearly full: nothing is to be deleted for that here.
CONFIG = """
[log]
filter = "warn"
[storage]
soft_free_permille = 20
hard_free_permille = 10
"""


def run(kinora: str, clips: Path, report: Report) -> None:
    with folder_for_data() as folder, Server(kinora, Path(folder) / "data", CONFIG) as server:
        measure(server, clips / "bench.mp4", report)


def measure(server: Server, clip: Path, report: Report) -> None:
    idle_rss = rss_bytes(server.pid)
    publisher = server.publish(clip, "camera", "--streams", str(STREAMS), "--tcp", "--loop")
    wait_until_recording(server)
    before, busy, load = server.metrics(), busy_seconds(), cpu_seconds(publisher.pid)
    cpu, started = cpu_seconds(server.pid), time.monotonic()
    rss = []
    while time.monotonic() - started < SECONDS:
        time.sleep(1)
        rss.append(rss_bytes(server.pid))
    cpu, seconds = cpu_seconds(server.pid) - cpu, time.monotonic() - started
    load = cpu_seconds(publisher.pid) - load
    others = busy_seconds() - busy - cpu - load
    after = server.metrics()
    summary = json.loads(interrupt(publisher).strip().splitlines()[-1])
    sent, stored = settle(server, summary)
    report.results["record"]["rss_bytes"] = rss

    share = cpu / seconds / CORES
    text = f"{share:.1%} of {CORES} cores for {STREAMS} streams, at most {SHARE_MAX:.0%}"
    report.bar("processor", share, SHARE_MAX, text)
    report.bar("frames_lost", abs(sent - stored), 0, f"{sent} sent, {stored} stored")
    text = f"the generator {load / seconds / CORES:.1%}, everybody else {others / seconds / CORES:.1%}"
    report.figure("beside_the_server", {"generator": load / seconds, "others": others / seconds}, text)
    late = max(stream["late_ms_max"] for stream in summary["streams"])
    report.figure("generator_late_ms", late, f"{late} ms at most")
    a_stream = (max(rss) - idle_rss) / STREAMS
    text = f"{a_stream / 2**20:.1f} MiB a stream, {max(rss) / 2**20:.0f} MiB in all, {idle_rss / 2**20:.0f} MiB at start"
    report.figure("memory_bytes", {"a_stream": a_stream, "most": max(rss), "at_start": idle_rss}, text)
    last_half = rss[len(rss) // 2 :]
    grown = (last_half[-1] - last_half[0]) / 2**20
    report.figure("memory_growth_mib", grown, f"{grown:+.0f} MiB in the last {len(last_half)} s")
    for key, histogram in (
        ("sync_ms", "kinora_store_sync_seconds"),
        ("acknowledgement_ms", "kinora_fragment_ack_seconds"),
    ):
        taken = percentiles(before, after, histogram)
        report.figure(key, taken, ", ".join(f"{name} {value:.1f} ms" for name, value in taken.items()))
    idle = cpu_seconds(server.pid)
    time.sleep(5)
    idle = (cpu_seconds(server.pid) - idle) / 5
    report.figure("idle_processor", idle, f"{idle:.1%} of a core, {STREAMS} streams and nobody there")


def streams(server: Server) -> list[dict]:
    return json.loads(server.get("/v1/streams?prefix=camera&limit=1000"))["streams"]


def wait_until_recording(server: Server) -> None:
    """Until every stream has media that can be played, and some seconds more for the start to be over."""
    deadline = time.monotonic() + 60
    waiting: set[str] = set()
    while time.monotonic() < deadline:
        found = {stream["name"] for stream in streams(server)}
        waiting = {name for name in found if server.get(f"/hls/{name}/video.m3u8") is None}
        if len(found) == STREAMS and not waiting:
            time.sleep(5)
            return
        time.sleep(1)
    raise SystemExit(f"after 60 s {len(streams(server))} of {STREAMS} streams exist, {len(waiting)} have no media")


def settle(server: Server, summary: dict) -> tuple[int, int]:
    """Frames sent and frames stored, when all that was sent had its time to be stored."""
    sent = {}
    for stream in summary["streams"]:
        sent[stream["url"].rsplit("/", 1)[1]] = sum(track["frames"] for track in stream["tracks"])
        if stream["error"] or stream["reconnects"]:
            print(f"  {stream['url'].rsplit('/', 1)[1]}: {stream['error']}, {stream['reconnects']} reconnects")
    deadline = time.monotonic() + 20
    while True:
        stored = {name: frames_stored(server, name) for name in sent}
        if stored == sent or time.monotonic() > deadline:
            break
        time.sleep(1)
    wrong = [f"{name}: {sent[name]} sent, {stored[name]} stored" for name in sent if sent[name] != stored[name]]
    for line in wrong[:5]:
        print(f"  {line}")
    return sum(sent.values()), sum(stored.values())


def frames_stored(server: Server, name: str) -> int:
    """Frames in the stored fragments of a stream, by the server's own list of them."""
    frames, cursor = 0, ""
    while True:
        page = json.loads(server.get(f"/v1/streams/{name}/fragments?limit=5000{cursor}"))
        for fragment in page["fragments"]:
            frames += sum(track["samples"] for track in fragment["tracks"])
        if "cursor" not in page:
            return frames
        cursor = f"&cursor={page['cursor']}"
