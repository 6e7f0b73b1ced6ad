"""Takes pictures out of a recorded 1080p stream over HTTP, beside libraries that take them out of the same clip's file.

Every tool gets the same numbers, in rounds, so that a machine that changes its pace does so for all of them.
"""

import http.client
import json
import random
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import machine
from machine import CACHE, Report, Server, cpu_seconds, folder_for_data
from record import frames_stored

CLIP, CLIP_PICTURES, WIDTH, HEIGHT = "bench-1080p.mp4", 1200, 1920, 1080
# Pictures that are taken one by one, in so many rounds, and at once.
PICTURES, ROUNDS, BATCH = 90, 3, 348
PYAV_MAX, KEY_MAX, PROCESSOR_MAX, FASTER_MIN = 1.25, 0.25, 1.0, 1.6
# What was made once is not to be given again: every tool decodes.
CONFIG = """
[log]
filter = "warn"
[storage]
soft_free_permille = 20
hard_free_permille = 10
[pictures]
remembered_bytes = "0B"
"""
PYTHON = CACHE / "python/bench/bin/python3"
PEER = Path(__file__).with_name("frames_peer.py")
ONE = {
    "jpeg": ["pyav", "pyav-threads", "torchcodec", "decord", "opencv", "ffmpeg"],
    "rgb": ["pyav", "pyav-threads", "torchcodec", "torchcodec-approximate", "decord", "opencv", "ffmpeg"],
    "i420": ["pyav", "pyav-threads", "ffmpeg"],
}
BATCHES = {"jpeg": ["torchcodec", "torchcodec-approximate"], "rgb": ["torchcodec", "torchcodec-approximate", "decord"], "i420": []}
BYTES = {"rgb": WIDTH * HEIGHT * 3, "i420": WIDTH * HEIGHT * 3 // 2}


def run(kinora: str, clips: Path, report: Report) -> None:
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is not there: scripts/python .cache/python bench")
    clip = clips / CLIP
    chosen = random.Random(2)
    singles = [chosen.randrange(CLIP_PICTURES) for _ in range(PICTURES)]
    batch = sorted(chosen.sample(range(CLIP_PICTURES), BATCH))
    with folder_for_data() as folder, Server(kinora, Path(folder) / "data", CONFIG) as server:
        ours = Ours(server, clip)
        peers = Peers(clip)
        one = measure_one(ours, peers, singles)
        batches = measure_batches(ours, peers, batch)
    results = {
        "machine": machine.describe(report.results["machine"]),
        "clip_pictures": CLIP_PICTURES,
        "batch_pictures": len(batch),
        "missing": peers.missing,
        "singles": singles,
        "batch_numbers": batch,
        "one": one,
        "batch": batches,
    }
    tell(results, report)
    keep(results, report)


class Ours:
    """The stream that the clip was recorded as."""

    def __init__(self, server: Server, clip: Path):
        self.server = server
        if server.publish(clip, "camera", "--tcp").wait() != 0:
            raise SystemExit("the clip was not pushed")
        deadline = time.monotonic() + 30
        while (stored := frames_stored(server, "camera")) != CLIP_PICTURES:
            if time.monotonic() > deadline:
                raise SystemExit(f"{stored} of {CLIP_PICTURES} pictures are stored")
            time.sleep(0.5)
        host = server.http.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=120)
        lines = self.get("from=0&to=4102444800000&width=16", {"accept": "application/x-ndjson"})[1].splitlines()
        self.times = [json.loads(line)["time"] for line in lines]
        if len(self.times) != CLIP_PICTURES:
            raise SystemExit(f"{len(self.times)} of {CLIP_PICTURES} pictures are given")

    def get(self, query: str, headers: dict | None = None) -> tuple[http.client.HTTPMessage, bytes]:
        self.ask(query, headers)
        answer = self.connection.getresponse()
        return self.checked(answer, answer.read())

    def ask(self, query: str, headers: dict | None = None) -> None:
        headers = {"authorization": f"Bearer {self.server.admin}", **(headers or {})}
        self.connection.request("GET", f"/v1/streams/camera/frames?{query}", headers=headers)

    def connect_again(self) -> None:
        """The server closes what was idle for long, as while the peers had their turn."""
        self.connection.close()
        self.connection.connect()

    def checked(self, answer, body: bytes) -> tuple[http.client.HTTPMessage, bytes]:
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {body[:500]!r}")
        return answer.headers, body

    def cpu(self) -> float:
        return cpu_of_family(self.server.pid)

    def one(self, numbers: list[int], form: str, pick: str = "shown") -> dict:
        """Pictures one after another over one connection."""
        self.connect_again()
        taken, wrong = [], 0
        for number in numbers:
            cpu, started = self.cpu(), time.perf_counter()
            headers, body = self.get(f"at={self.times[number]}&format={form}&pick={pick}")
            taken.append({"wall": time.perf_counter() - started, "cpu": self.cpu() - cpu})
            if pick == "shown":
                wrong += headers["kinora-time"] != self.times[number] or number_in(body, form) not in (None, number)
        return {"taken": taken, "wrong": wrong}

    def batch(self, numbers: list[int], form: str) -> dict:
        """Pictures by one request, read as they come."""
        self.connect_again()
        # Up to the millisecond after each picture, while it is on screen: 14 bytes each, and the head of a request has 16 KiB.
        instants = ",".join(str(-(-micros(self.times[number]) // 1000)) for number in numbers)
        cpu, started = self.cpu(), time.perf_counter()
        self.ask(f"at={instants}&format={form}")
        answer = self.connection.getresponse()
        if answer.status != 200:
            self.checked(answer, answer.read())
        count, wrong, buffer = 0, 0, bytearray(8 << 20)
        while answer.readline().strip() != b"--kinora-picture--":
            head = http.client.parse_headers(answer)
            view = memoryview(buffer)[: int(head["content-length"])]
            read = 0
            while read < len(view):
                read += answer.readinto(view[read:]) or sys.exit("the answer broke off")
            answer.readline()
            wrong += head["kinora-time"] != self.times[numbers[count]] or number_in(view, form) not in (None, numbers[count])
            count += 1
        answer.read()
        wall = time.perf_counter() - started
        if count != len(numbers):
            raise SystemExit(f"{count} of {len(numbers)} pictures came")
        return {"taken": [{"wall": wall, "cpu": self.cpu() - cpu}], "wrong": wrong}


class Peers:
    """Other tools, each in a process of its own."""

    def __init__(self, clip: Path):
        self.clip, self.missing = clip, {}

    def take(self, peer: str, numbers: list[int], form: str, batch: bool = False) -> dict | None:
        """What it took, or none when it does not run here."""
        if peer in self.missing:
            return None
        job = json.dumps({"form": form, "pictures": numbers, "batch": batch})
        said = subprocess.run([PYTHON, PEER, peer, self.clip], input=job, capture_output=True, text=True)
        if said.returncode != 0:
            self.missing[peer] = (said.stderr.strip().splitlines() or ["no reason"])[-1]
            print(f"  {peer} is left out: {self.missing[peer]}", flush=True)
            return None
        return json.loads(said.stdout)


def measure_one(ours: Ours, peers: Peers, numbers: list[int]) -> dict:
    found: dict = {}
    for form, names in ONE.items():
        ours.one(numbers[:2], form)
        tools: dict = {}
        for start in range(ROUNDS):
            part = numbers[start::ROUNDS]
            add(tools, "kinora", ours.one(part, form))
            add(tools, "kinora, pick=key", ours.one(part, form, "key"))
            for name in names:
                add(tools, name, peers.take(name, part, form))
        found[form] = tools
    return found


def measure_batches(ours: Ours, peers: Peers, numbers: list[int]) -> dict:
    found: dict = {}
    for form, names in BATCHES.items():
        tools: dict = {}
        for _ in range(ROUNDS):
            add(tools, "kinora", ours.batch(numbers, form))
            for name in names:
                add(tools, name, peers.take(name, numbers, form, batch=True))
        for tool in tools.values():
            for key in ("wall", "cpu"):
                tool[key] = statistics.median(one[key] for one in tool["taken"])
        found[form] = tools
    return found


def add(tools: dict, name: str, more: dict | None) -> None:
    if more is None:
        return
    tool = tools.setdefault(name, {"taken": [], "wrong": 0, "version": more.get("version")})
    tool["taken"] += more["taken"]
    tool["wrong"] += more["wrong"]


def tell(results: dict, report: Report) -> None:
    print(f"  {'one picture':34}{'mean':>9}{'p50':>9}{'p95':>9}{'processor':>11}  ms")
    for form, tools in results["one"].items():
        for name, tool in tools.items():
            walls = sorted(one["wall"] * 1e3 for one in tool["taken"])
            tool["mean"], tool["p50"] = statistics.fmean(walls), statistics.median(walls)
            tool["p95"] = walls[min(len(walls) - 1, len(walls) * 95 // 100)]
            tool["cpu"] = statistics.fmean(one["cpu"] * 1e3 for one in tool["taken"])
            row = "".join(f"{tool[key]:9.1f}" for key in ("mean", "p50", "p95")) + f"{tool['cpu']:11.1f}"
            print(f"  {form + ', ' + name:34}{row}{wrong_text(tool)}")
    print(f"  {'%d pictures' % results['batch_pictures']:34}{'wall':>9}{'processor':>11}  s")
    for form, tools in results["batch"].items():
        for name, tool in tools.items():
            print(f"  {form + ', ' + name:34}{tool['wall']:9.2f}{tool['cpu']:11.2f}{wrong_text(tool)}", flush=True)
    forms = [*results["one"].values(), *results["batch"].values()]
    wrong = sum(tools["kinora"]["wrong"] for tools in forms)
    report.bar("wrong_pictures", wrong, 0, f"{wrong} pictures of other numbers than asked for")
    for form, tools in results["one"].items():
        ours, key = tools["kinora"], tools["kinora, pick=key"]
        if "pyav" in tools:
            ratio = ours["mean"] / tools["pyav"]["mean"]
            report.bar(f"{form}_to_pyav", ratio, PYAV_MAX, f"{ratio:.2f} times PyAV's mean, at most {PYAV_MAX}")
        ratio = key["p50"] / ours["p50"]
        report.bar(f"{form}_key_to_exact", ratio, KEY_MAX, f"{ratio:.2f} of the exact median, at most {KEY_MAX}")
    for form, tools in results["batch"].items():
        # Like with like, as for one picture: JPEG against JPEG. It gives no planes, so those stand against its tensors.
        theirs = results["batch"][form if form in ("jpeg", "rgb") else "rgb"]
        # By whichever of its modes is the quicker.
        torch = [tool for name, tool in theirs.items() if name.startswith("torchcodec")]
        if not torch:
            continue
        cpu, wall = (min(tool[key] for tool in torch) for key in ("cpu", "wall"))
        ratio = tools["kinora"]["cpu"] / cpu
        text = f"{ratio:.2f} times torchcodec's processor time, at most {PROCESSOR_MAX}"
        report.bar(f"{form}_batch_processor", ratio, PROCESSOR_MAX, text)
        ratio = tools["kinora"]["wall"] / wall
        text = f"{1 / ratio:.2f} times as fast as torchcodec, at least {FASTER_MIN}"
        report.bar(f"{form}_batch_wall", ratio, 1 / FASTER_MIN, text)
    tensors = [tool["cpu"] for name, tool in results["batch"]["rgb"].items() if name.startswith("torchcodec")]
    if tensors:
        ratio = results["batch"]["jpeg"]["kinora"]["cpu"] / min(tensors)
        report.figure("jpeg_to_tensors", ratio, f"{ratio:.2f} times the processor time of torchcodec's tensors, without a JPEG")


def wrong_text(tool: dict) -> str:
    return f"   {tool['wrong']} of other numbers!" if tool["wrong"] else ""


def keep(results: dict, report: Report) -> None:
    folder = CACHE / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    data, plot = folder / "frames.json", folder / "frames.png"
    data.write_text(json.dumps(results, indent=1))
    report.results["frames"]["raw"] = results
    drawn = subprocess.run([PYTHON, PEER.with_name("frames_plot.py"), data, plot])
    report.figure("raw_data", str(data), f"{data}, {plot if drawn.returncode == 0 else 'no plot'}")


def number_in(picture, form: str) -> int | None:
    """The number that the clip has in squares at the top left; not looked for in a JPEG."""
    if form not in BYTES:
        return None
    if len(picture) != BYTES[form]:
        return -1
    pixel = 3 if form == "rgb" else 1
    row = 8 * WIDTH * pixel
    return sum((picture[row + (16 * (16 - bit) + 8) * pixel] > 128) << bit for bit in range(16))


def micros(time: str) -> int:
    """Of an RFC 3339 time in UTC with six digits, without what floats would lose."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp())
    return seconds * 1_000_000 + int(fraction)


def cpu_of_family(pid: int) -> float:
    """Processor time of a process, of its children, and of those that it has seen end."""
    total = cpu_seconds(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    total += (int(fields[13]) + int(fields[14])) / machine.TICK
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += sum(cpu_seconds(int(child)) for child in (task / "children").read_text().split())
        except FileNotFoundError:
            # A thread or a child that has ended meanwhile; children are in the sum above.
            continue
    return total
