"""A small machine under attack: a control group of 512 MiB, 1,024 descriptors, 64 cameras, and troubles beside them by turns.

Bars: no acknowledged fragment is lost, acknowledgements stay as quick as undisturbed, nothing is killed, memory comes back, a
second token still gets its frames, and a WHIP camera connects at any time.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
from pathlib import Path

from machine import CACHE, Report, Server, folder_for_data, interrupt, percentiles, rss_bytes

HERE = Path(__file__).resolve().parent
CAMERAS = 64
MEMORY_MIB = 512
DESCRIPTORS = 1024
SECONDS = 60
SLOWER_MAX = 2.0
FRAMES_SLOWER_MAX = 3.0
CONNECT_MAX_S = 2.0
# What the allocator keeps.
MEMORY_BACK_MIB = 64
HISTOGRAM = "kinora_fragment_ack_seconds"
SLOW = "camera-64"
CONFIG = """
[log]
filter = "warn"
[storage]
soft_free_permille = 20
hard_free_permille = 10
"""


def run(kinora: str, clips: Path, report: Report) -> None:
    with folder_for_data() as folder, Group() as group:
        folder = Path(folder)
        control = folder / "slow"
        control.write_text("")
        with Server(kinora, folder / "data", CONFIG, group.prefix(slow_sync(folder), control)) as server:
            try:
                Siege(server, clips, control, group, report).run()
            except OSError as error:
                raise SystemExit(f"the server does not answer ({error}); {group.kills()} processes were killed by the kernel\n{server.log.read_text()[-2000:]}")
            acknowledged = fragments(server)
            # The process may be gone already; that is what the bar below says.
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, 9)
            server.process.wait()
        with Server(kinora, folder / "data", CONFIG) as again:
            there = fragments(again)
            lost = sum(len(numbers - there.get(name, set())) for name, numbers in acknowledged.items())
            count = sum(map(len, acknowledged.values()))
            report.bar("acknowledged_lost", lost, 0, f"{lost} of {count} acknowledged fragments lost after a kill")
        checked = subprocess.run([kinora, "store", "check", "--data-dir", folder / "data"], capture_output=True, text=True)
        text = "store check is clean" if checked.returncode == 0 else f"store check: {checked.stdout[-400:]}{checked.stderr[-400:]}"
        report.bar("store_check", checked.returncode, 0, text)


class Group:
    """A control group for memory, of the first or second version."""

    def __enter__(self) -> "Group":
        first = Path("/sys/fs/cgroup/memory")
        self.first = first.is_dir()
        self.path = (first if self.first else Path("/sys/fs/cgroup")) / f"kinora-small-{os.getpid()}"
        try:
            self.path.mkdir()
            limit = "memory.limit_in_bytes" if self.first else "memory.max"
            (self.path / limit).write_text(str(MEMORY_MIB << 20))
        except OSError as error:
            raise SystemExit(f"this needs root and a writable memory control group: {error}")
        return self

    def __exit__(self, *_) -> None:
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)

    def prefix(self, preload: Path, control: Path) -> list[str]:
        """Starts a program inside, with a soft limit of descriptors and a disk that can be made slow."""
        enter = f'echo $$ > {self.path}/cgroup.procs; ulimit -Sn {DESCRIPTORS}; exec env "$@"'
        return ["sh", "-c", enter, "sh", f"LD_PRELOAD={preload}", f"SLOW_SYNC_CONTROL={control}"]

    def kills(self) -> int:
        """Processes that the kernel killed for want of memory."""
        text = (self.path / ("memory.oom_control" if self.first else "memory.events")).read_text()
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)

    def resident_bytes(self) -> int:
        """Resident memory of all processes inside; what they share is counted once."""
        pids = [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        total = 0
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
                total += rss_bytes(pid, "RssAnon")
        return total


def slow_sync(folder: Path) -> Path:
    built = folder / "slow_sync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, HERE / "slow_sync.c"], check=True)
    return built


class Siege:
    """The cameras, who else uses the server honestly, and one trouble after the other."""

    def __init__(self, server: Server, clips: Path, control: Path, group: Group, report: Report):
        self.server, self.control, self.group, self.report = server, control, group, report
        self.clips = clips
        self.frame_times: list[float] = []
        self.connects: list[dict] = []
        self.over = threading.Event()

    def run(self) -> None:
        server, report = self.server, self.report
        publisher = server.publish(self.clips / "bench.mp4", "camera", "--streams", str(CAMERAS), "--tcp", "--loop")
        self.wait_until_recording()
        self.tokens = {name: self.mint(streams) for name, streams in
                       (("flood_token", "*"), ("frame_token", "*"), ("view_token", "*"))}
        camera = self.whip_camera()
        threads = [threading.Thread(target=work, daemon=True) for work in (self.ask_for_frames, lambda: self.watch(camera))]
        for thread in threads:
            thread.start()
        # Everything that starts at first use has started.
        time.sleep(10)
        quiet = self.measure("quiet", SECONDS, None)
        memory = self.server_bytes()
        for trouble in ("strangers", "http1_readers", "http2_readers", "frame_flood", "offers", "slow_disk"):
            found = self.measure(trouble, SECONDS, trouble)
            slower = found["ack"]["p99"] / quiet["ack"]["p99"]
            report.bar(f"{trouble}_ack", slower, SLOWER_MAX, f"acknowledgement p99 {slower:.2f} times the undisturbed one, at most {SLOWER_MAX}")
            if trouble == "frame_flood":
                slower = found["frames"] / quiet["frames"]
                report.bar("other_token", slower, FRAMES_SLOWER_MAX, f"the other token's frame p95 {slower:.2f} times the undisturbed one, at most {FRAMES_SLOWER_MAX}")
            back = self.memory_after(memory + (MEMORY_BACK_MIB << 20))
            report.bar(f"{trouble}_memory_back", back - memory, MEMORY_BACK_MIB << 20, f"{back / 2**20:.0f} MiB within 60 s, {memory / 2**20:.0f} before, at most {MEMORY_BACK_MIB} more")
        self.over.set()
        camera.stdin.close()
        camera.wait(30)
        self.judge_connects()
        alive = server.process.poll() is None
        kills = self.group.kills()
        report.bar("killed", kills + (not alive), 0, f"{kills} processes killed by the kernel; the server {'runs' if alive else 'is gone'}")
        summary = json.loads(interrupt(publisher).strip().splitlines()[-1])
        ended = [stream for stream in summary["streams"] if stream.get("error")]
        report.bar("cameras_ended", len(ended), 0, f"{len(ended)} of {CAMERAS} cameras were cut off")
        time.sleep(12)

    def wait_until_recording(self) -> None:
        deadline = time.monotonic() + 90
        while any(self.server.get(f"/hls/camera-{number}/video.m3u8") is None for number in range(1, CAMERAS + 1)):
            if time.monotonic() > deadline:
                raise SystemExit("after 90 s not every camera is recorded")
            time.sleep(1)

    def mint(self, streams: str) -> str:
        return self.server.post("/v1/tokens", {"streams": streams, "actions": ["play", "read_stream"], "playback": True})["token"]

    def measure(self, name: str, seconds: int, trouble: str | None) -> dict:
        """Acknowledgements and frames while a trouble lasts."""
        self.frame_times.clear()
        before, most = self.metrics(), 0
        attackers = None
        if trouble == "slow_disk":
            self.control.write_text(f"/streams/{self.stream_id(SLOW)}/")
        elif trouble:
            attackers = self.attack(trouble)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.5)
            most = max(most, self.group.resident_bytes())
        after = self.metrics()
        times = sorted(self.frame_times)
        found = {"ack": percentiles(before, after, HISTOGRAM), "frames": times[int(len(times) * 0.95)] if times else float("inf")}
        self.control.write_text("")
        text = ", ".join(f"{key} {value:.0f} ms" for key, value in found["ack"].items())
        self.report.figure(f"{name}_ack_ms", found["ack"], text)
        self.report.figure(f"{name}_frames_s", found["frames"], f"another token's frames: {len(times)} in {seconds} s, p95 {found['frames']:.3f} s")
        self.report.figure(f"{name}_memory", most, f"{most / 2**20:.0f} MiB at most")
        if attackers:
            said = attackers.communicate(timeout=90)[0]
            self.report.figure(f"{name}_said", json.loads(said), said.strip())
        return found

    def metrics(self) -> dict[str, float]:
        """Without the stream whose disk is made slow."""
        return {key: value for key, value in self.server.metrics().items() if f'"{SLOW}"' not in key}

    def stream_id(self, name: str) -> str:
        return json.loads(self.server.get(f"/v1/streams/{name}"))["id"]

    def attack(self, trouble: str) -> subprocess.Popen:
        now = time.time()
        target = {
            "http": self.server.http.removeprefix("http://"),
            "rtsp": self.server.rtsp,
            "segments": self.segments(),
            "offer": (HERE.parent / "tests/data/webrtc/chromium-view.sdp").read_text(),
            "from": int((now - 15) * 1000),
            "to": int((now - 5) * 1000),
            **self.tokens,
        }
        command = [sys.executable, HERE / "attackers.py", trouble]
        environment = {**os.environ, "TARGET": json.dumps(target)}
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

    def segments(self) -> list[str]:
        """Addresses of some cameras' segments, with the token that opens them."""
        token = self.tokens["view_token"]
        found = []
        for number in range(1, 11):
            text = (self.server.get(f"/hls/camera-{number}/video.m3u8") or b"").decode()
            uris = [line for line in text.splitlines() if ".m4s" in line and line[0] != "#"]
            if uris:
                path = urllib.parse.urljoin(f"/hls/camera-{number}/", uris[-2 if len(uris) > 1 else -1].split("?")[0])
                found.append(f"{path}?token={token}")
        return found

    def ask_for_frames(self) -> None:
        """An honest client: one frame a second."""
        while not self.over.wait(1):
            started = time.monotonic()
            try:
                self.server.request("/v1/streams/camera-9/frames?at=latest&width=320", token=self.tokens["frame_token"]).read()
                self.frame_times.append(time.monotonic() - started)
            except (OSError, urllib.error.HTTPError):
                self.frame_times.append(60.0)

    def whip_camera(self) -> subprocess.Popen:
        python = CACHE / "python/samples/bin/python"
        if not python.exists():
            raise SystemExit("first: scripts/python .cache/python samples")
        token = self.server.post("/v1/tokens", {"streams": "whip", "actions": ["publish", "create_stream"]})["token"]
        command = [python, HERE / "whip_camera.py", self.server.http.removeprefix("http://"), token, "whip"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def watch(self, camera: subprocess.Popen) -> None:
        for line in camera.stdout:
            self.connects.append(json.loads(line))

    def judge_connects(self) -> None:
        failed = [one["error"] for one in self.connects if "error" in one]
        slowest = max((one["seconds"] for one in self.connects if "seconds" in one), default=float("inf"))
        self.report.bar("whip_failed", len(failed), 0, f"{len(failed)} of {len(self.connects)} WHIP cameras did not connect {failed[:2]}")
        self.report.bar("whip_slowest", slowest, CONNECT_MAX_S, f"the slowest connected after {slowest:.2f} s, at most {CONNECT_MAX_S}")

    def server_bytes(self) -> int:
        """Resident memory of the server itself: decoders that stay warm hold what they need, and no more of them than there are cores."""
        return rss_bytes(self.server.pid, "RssAnon")

    def memory_after(self, enough: int) -> int:
        """The server's memory as soon as it is low enough, or after a minute."""
        deadline = time.monotonic() + 60
        while (now := self.server_bytes()) > enough and time.monotonic() < deadline:
            time.sleep(1)
        return now


def fragments(server: Server) -> dict[str, set[str]]:
    """The numbers of every persisted fragment of every camera."""
    found: dict[str, set[str]] = {}
    for number in range(1, CAMERAS + 1):
        name, cursor = f"camera-{number}", ""
        found[name] = set()
        while True:
            page = json.loads(server.get(f"/v1/streams/{name}/fragments?limit=1000{cursor}") or b'{"fragments": []}')
            found[name] |= {fragment["number"] for fragment in page["fragments"]}
            if not page.get("cursor"):
                break
            cursor = f"&cursor={page['cursor']}"
    return found
