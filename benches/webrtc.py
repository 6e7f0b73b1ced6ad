"""Shows a stream over WebRTC to many viewers and to a browser: how late they are, and what the server takes for it."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from machine import CORES, Report, Server, cpu_seconds, folder_for_data, rss_bytes

HERE = Path(__file__).resolve().parent
VIEWERS = HERE.parent / "target/viewers/release/viewers"
CROWDS = (50, 200)
# As long as the clip: every second of it counts once.
SECONDS = 20
DELAY_MAX_MS = 10
CPU_MAX_MS, CPU_MAX_MS_WITHOUT_GSO = 2, 3
MEMORY_MAX_KB = 500
FIRST_PICTURE_MAX_MS = 500
GLASS_MAX_MS = 300
CHURN_VIEWERS, CHURN_SECONDS, CHURN_STAY = 1000, 300, 10
# As many as there are at once, with those that the server has not missed yet.
CHURN_AT_ONCE = 100
KNOCKS_A_SECOND, KNOCK_SECONDS = 1000, 10
# Longer than a viewer that is not heard of is believed to be there, and than an offer is kept.
FORGOTTEN_SECONDS = 45
CHURN_GROWTH_MAX_MIB = 10
UDP_SEGMENT = 103
CONFIG = """
[log]
filter = "error"
[storage]
soft_free_permille = 20
hard_free_permille = 10
[live]
tail_bytes = "2MB"
"""


def run(kinora: str, clips: Path, report: Report) -> None:
    build = ["cargo", "build", "--locked", "--release", "--quiet", "--manifest-path", HERE / "viewers/Cargo.toml"]
    subprocess.run([*build, "--target-dir", VIEWERS.parent.parent], check=True)
    sizes = None
    for count in CROWDS:
        with camera(kinora, clips / "bench-gop2.mp4") as (server, log):
            sizes = crowd(server, log, count, report)
    for count in CROWDS:
        plain(sizes, count, report)
    for seconds in (2, 10):
        with camera(kinora, clips / f"bench-gop{seconds}.mp4") as (server, log):
            browser(server, log, seconds, report)
    with camera(kinora, clips / "bench-gop2.mp4") as (server, log):
        churn(server, log, report)


@contextmanager
def camera(kinora: str, clip: Path):
    """A server with the stream `camera`, and the log of what sends it."""
    with folder_for_data() as folder, Server(kinora, Path(folder) / "data", CONFIG) as server:
        secret = server.post("/v1/keys", {"kind": "publish_secret", "streams": "*"})["secret"]
        log = Path(folder) / "camera.log"
        url = f"rtsp://camera:{secret}@{server.rtsp}/camera"
        sender = subprocess.Popen([sys.executable, HERE / "camera.py", clip, url, log])
        try:
            deadline = time.monotonic() + 30
            while server.get("/hls/camera/video.m3u8") is None:
                if time.monotonic() > deadline:
                    raise SystemExit("after 30 s the camera is not recorded")
                time.sleep(0.5)
            # What it keeps of the newest media has grown to what it may be by then.
            time.sleep(15)
            yield server, log
        finally:
            sender.terminate()
            sender.wait()


class Crowd:
    """Viewers in one process; `with` makes them leave."""

    def __init__(self, *arguments):
        command = [VIEWERS, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the viewers ended early")
        return json.loads(line)

    def say(self, order: str) -> None:
        print(order, file=self.process.stdin, flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)


def watchers(server: Server, log: Path, *arguments) -> Crowd:
    return Crowd("watch", f"{server.http}/whep/camera", server.admin, log, *arguments)


def taken(pid: int, seconds: float) -> float:
    """Processor time in a second, over so many."""
    before, started = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - started)


def crowd(server: Server, log: Path, count: int, report: Report) -> list:
    """So many viewers; gives the sizes of the packets of each picture as one of them got them."""
    with watchers(server, log, 1, 0):
        time.sleep(3)
        alone, alone_rss = taken(server.pid, SECONDS), rss_bytes(server.pid)
    with watchers(server, log, count, 20) as viewers:
        if viewers.ready["connected"] < count:
            raise SystemExit(f"of {count} viewers these came: {viewers.ready}")
        # Until all have caught up.
        time.sleep(5)
        viewers.say("begin")
        viewer_cpu = cpu_seconds(viewers.process.pid)
        cpu = taken(server.pid, SECONDS)
        viewer_cpu = (cpu_seconds(viewers.process.pid) - viewer_cpu) / SECONDS
        viewers.say("end")
        found = viewers.read()
        rss = rss_bytes(server.pid)
    sizes = found.pop("sizes")
    report.results["webrtc"][f"viewers_{count}"] = found | {"ready": viewers.ready}
    if found["known"] < 0.99 * found["pictures"]:
        raise SystemExit(f"of {found['pictures']} pictures only {found['known']} are known again")
    delay = found["delay_ms"]
    text = f"{found['pictures']} pictures, {found['packets']} packets, {found['missing']} packets missing; "
    report.figure(f"shown_to_{count}", found, text + f"the viewers' own {viewer_cpu / CORES:.0%} of {CORES} cores")
    text = f"p50 {delay['p50']:.1f} ms, p99 {delay['p99']:.1f} ms, most {delay['most']:.1f} ms after the camera sent it"
    text += f" (key pictures, {largest(sizes)} packets: p50 {found['key_pictures_delay_ms']['p50']:.1f} ms)"
    if count == CROWDS[0]:
        report.bar(f"delay_with_{count}", delay["p99"], DELAY_MAX_MS, f"{text}; p99 at most {DELAY_MAX_MS}")
    else:
        report.figure(f"delay_with_{count}", delay, text)
    megabits = sum(map(sum, sizes)) * 8 / SECONDS / 1e6
    cost = (cpu - alone) / (count - 1) * 1e3
    most = CPU_MAX_MS if has_gso() else CPU_MAX_MS_WITHOUT_GSO
    text = f"{cost:.2f} ms a viewer-second of {megabits:.1f} Mbit/s, at most {most}"
    report.bar(f"processor_with_{count}", cost, most, f"{text}; {cpu:.1%} of a core in all, {alone:.1%} for one viewer")
    memory = (rss - alone_rss) / (count - 1) / 1e3
    text = f"{memory:.0f} kB a viewer, at most {MEMORY_MAX_KB}; {rss / 2**20:.0f} MiB in all"
    report.bar(f"memory_with_{count}", memory, MEMORY_MAX_KB, text)
    return sizes


def largest(sizes: list) -> int:
    return max(map(len, sizes))


def has_gso() -> bool:
    """Whether the kernel takes many datagrams in one call (UDP_SEGMENT, Linux 4.18)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        except OSError:
            return False
    return True


def plain(sizes: list, count: int, report: Report) -> None:
    """The same packets to as many sockets, without anything that makes them WebRTC."""
    texts, figures = [], {}
    with folder_for_data() as folder, Crowd("drain", count) as readers:
        files = []
        for name, value in (("ports", readers.ready["ports"]), ("sizes", sizes)):
            files.append(Path(folder) / f"{name}.json")
            files[-1].write_text(json.dumps(value))
        for how, name in (("one", "a call for each"), ("gso", "a call for many")):
            readers.say("begin")
            before = os.times()
            sent = subprocess.run([VIEWERS, "plain", *files, str(SECONDS), how], check=True, capture_output=True)
            after = os.times()
            sent = json.loads(sent.stdout)
            time.sleep(0.5)
            readers.say("end")
            came = readers.read()["packets"]
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            cost = cpu / sent["seconds"] / count * 1e3
            figures[how] = {"ms": cost, "came": came, **sent}
            missing = sent["packets"] - came
            texts.append(f"{cost:.2f} ms with {name}" + (f" ({missing} packets missing)" if missing else ""))
    report.figure(f"plain_udp_to_{count}", figures, f"{', '.join(texts)}, a socket and second")


def browser(server: Server, log: Path, gop: int, report: Report) -> None:
    watch = ["node", HERE / "webrtc.mjs", server.http, server.admin, log, *(["whip"] if gop == 2 else [])]
    found = json.loads(subprocess.run(watch, check=True, stdout=subprocess.PIPE, text=True).stdout)
    first, glass = found["first"], found["glass"]
    text = f"after {first['p50']:.0f} ms (p50 of {first['count']}), {first['most']:.0f} ms at most; p50 at most {FIRST_PICTURE_MAX_MS}"
    report.bar(f"first_picture_gop_{gop}_s", first["p50"], FIRST_PICTURE_MAX_MS, text)
    text = f"p50 {glass['p50']:.0f} ms, most {glass['most']:.0f} ms from sending to the screen, after 3 s; at most {GLASS_MAX_MS}"
    report.bar(f"glass_gop_{gop}_s", glass["most"], GLASS_MAX_MS, text)
    report.results["webrtc"][f"browser_gop_{gop}_s"] = found
    if whip := found.get("whip"):
        text = f"p50 {whip['p50']:.0f} ms, most {whip['most']:.0f} ms from a browser's canvas by WHIP and WHEP to another's screen"
        report.figure(f"whip_to_whep", whip, text)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def churn(server: Server, log: Path, report: Report) -> None:
    """Viewers that come and go, and offers that nothing follows: afterwards it is as before."""

    def now() -> tuple[int, int]:
        return rss_bytes(server.pid), descriptors(server.pid)

    def trouble_of(key: str, trouble, text_of) -> None:
        before = now()
        found = trouble()
        time.sleep(FORGOTTEN_SECONDS)
        after = now()
        grown = (after[0] - before[0]) / 2**20
        text = f"{text_of(found)}: {grown:+.1f} MiB, at most {CHURN_GROWTH_MAX_MIB}"
        report.results["webrtc"][key] = found
        report.bar(f"{key}_memory", grown, CHURN_GROWTH_MAX_MIB, text)
        report.bar(f"{key}_descriptors", after[1] - before[1], 0, f"{before[1]} before, {after[1]} after")

    def come_and_go() -> dict:
        with watchers(server, log, CHURN_VIEWERS, CHURN_SECONDS / CHURN_VIEWERS * 1e3, CHURN_STAY) as viewers:
            return viewers.ready

    def knock() -> dict:
        command = [VIEWERS, "knock", f"{server.http}/whep/camera", server.admin, str(KNOCKS_A_SECOND), str(KNOCK_SECONDS)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def of_viewers(found: dict) -> str:
        return f"{found['connected']} of {CHURN_VIEWERS} viewers came and went"

    def of_knocks(found: dict) -> str:
        answers = ", ".join(f"{count} times {answer}" for answer, count in found["answers"].items())
        return f"offers in {found['seconds']:.0f} s answered {answers}"

    # What a first crowd leaves behind is there for the next: that is not to grow.
    at_first = now()[0]
    with watchers(server, log, CHURN_AT_ONCE, 20):
        time.sleep(CHURN_STAY)
    knock()
    time.sleep(FORGOTTEN_SECONDS)
    left = (now()[0] - at_first) / 2**20
    text = f"{left:+.1f} MiB after the first {CHURN_AT_ONCE} viewers and {KNOCKS_A_SECOND * KNOCK_SECONDS} offers"
    report.figure("first_crowd_memory", left, text)
    trouble_of("churn", come_and_go, of_viewers)
    trouble_of("knocks", knock, of_knocks)
