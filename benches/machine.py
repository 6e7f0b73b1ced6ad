"""The machine, processes on it, and a server under test. Standard library only."""

import json
import os
import platform
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

CORES = os.cpu_count() or 1
CACHE = Path(__file__).resolve().parent.parent / ".cache"
TICK = os.sysconf("SC_CLK_TCK")


class Report:
    """What was found: printed at once, kept for the file of results."""

    def __init__(self):
        self.results: dict = {}
        self.part = ""
        self.missed: list[str] = []

    def begin(self, part: str) -> None:
        self.part = part
        self.results[part] = {"load_average": os.getloadavg()}
        print(f"\n{part}  (load average {os.getloadavg()[0]:.1f})", flush=True)

    def figure(self, key: str, value, text: str) -> None:
        """A figure that has no bar."""
        self.results[self.part][key] = value
        print(f"  {key.replace('_', ' '):22} {text}", flush=True)

    def bar(self, key: str, value: float, most: float, text: str) -> None:
        """A figure that may be at most so much."""
        met = value <= most
        self.results[self.part][key] = {"value": value, "most": most, "met": met}
        line = f"{key.replace('_', ' '):22} {text}"
        print(f"  {line}: {'PASS' if met else 'FAIL'}", flush=True)
        if not met:
            self.missed.append(f"{self.part}: {line}")


def folder_for_data() -> tempfile.TemporaryDirectory:
    """A folder on the disk of the checkout: the system's own temporary folder may be memory."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="bench-", dir=CACHE)


def description(kinora: str) -> dict:
    """What the numbers were taken on, with how long its disk takes to make a write safe."""
    models = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    total = next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    with folder_for_data() as folder:
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
        # As large as a fragment of the benchmark `record`.
        probe = [kinora, "probe-disk", "--json", "--folder", folder, "--size", "288KiB", "--count", "300"]
        said = subprocess.run(probe, check=True, capture_output=True, text=True).stdout
    return {
        "cores": CORES,
        "processor": models[0] if models else platform.machine(),
        "memory_gib": round(int(total) / 2**20, 1),
        "kernel": platform.release(),
        "file_system": kind,
        "flush_ms": json.loads(said)["milliseconds"],
    }


def describe(machine: dict) -> str:
    flush = machine["flush_ms"]
    return (
        f"machine: {machine['cores']} cores, {machine['processor']}, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, {machine['file_system']}\n"
        f"disk: a write of 288 KiB is safe after {flush['p50']:.1f} ms (p50), {flush['p99']:.1f} ms (p99)"
    )


def busy_seconds() -> float:
    """Processor time of the whole machine so far: everything but idle and waiting."""
    fields = [int(field) for field in open("/proc/stat").readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far."""
    # The second field is the name in brackets, and may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_bytes(pid: int, field: str = "VmRSS") -> int:
    line = next(line for line in open(f"/proc/{pid}/status") if line.startswith(field))
    return int(line.split()[1]) * 1024


class Server:
    """`kinora serve` with a data folder; `with` stops it."""

    def __init__(self, kinora: str, data: Path, config: str = "", prefix: list[str] = []):
        self.kinora, self.data = kinora, data
        file, self.log = data.with_suffix(".toml"), data.with_suffix(".log")
        file.write_text(config)
        doors = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*prefix, kinora, "serve", "--config", file, "--data-dir", data, *doors],
            stdout=subprocess.PIPE,
            stderr=self.log.open("a"),
        )
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"kinora did not start:\n{self.log.read_text()}")
        ready = json.loads(line)
        self.pid, self.http, self.rtsp = ready["pid"], f"http://{ready['http']}", ready["rtsp"]
        self.admin = (data / "admin-token").read_text().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def request(self, path: str, body: dict | None = None, token: str | None = None):
        """The open answer of a GET, or of a POST with a body; by the administrator, or by who has this token."""
        headers = {"authorization": f"Bearer {token or self.admin}"}
        data = None
        if body is not None:
            data, headers["content-type"] = json.dumps(body).encode(), "application/json"
        return urllib.request.urlopen(urllib.request.Request(self.http + path, data, headers), timeout=60)

    def get(self, path: str) -> bytes | None:
        """The body, or none for an error of the client's."""
        try:
            with self.request(path) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise
            return None

    def post(self, path: str, body: dict):
        with self.request(path, body) as answer:
            return json.loads(answer.read() or b"null")

    def publish(self, clip: Path, stream: str, *options: str) -> subprocess.Popen:
        """The lean load generator; its summary comes on standard output when it is interrupted."""
        secret = self.post("/v1/keys", {"kind": "publish_secret", "streams": "*"})["secret"]
        url = f"rtsp://camera:{secret}@{self.rtsp}/{stream}"
        log = self.data.with_suffix(".publish.log").open("a")
        return subprocess.Popen(
            [self.kinora, "publish", clip, url, "--json", *options], stdout=subprocess.PIPE, stderr=log, text=True
        )

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        lines = self.get("/metrics").decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}


def interrupt(process: subprocess.Popen) -> str:
    """Stops a publisher as Ctrl-C does; what it wrote."""
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    return out


def percentiles(before: dict[str, float], after: dict[str, float], histogram: str) -> dict[str, float]:
    """p50, p95 and p99 of a histogram in milliseconds, between two looks at the metrics.

    Buckets of all labels are added up; inside of a bucket the values are taken as evenly spread.
    """
    buckets: dict[float, float] = {}
    for sample, value in after.items():
        name, _, labels = sample.partition("{")
        if name == f"{histogram}_bucket":
            bound = float(labels.split('le="', 1)[1].split('"', 1)[0].replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0) + value - before.get(sample, 0)
    if not buckets:
        raise SystemExit(f"/metrics has no histogram {histogram}")
    return {f"p{share}": _percentile(buckets, share / 100) * 1e3 for share in (50, 95, 99)}


def _percentile(buckets: dict[float, float], share: float) -> float:
    bounds = sorted(buckets)
    wanted = share * buckets[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted and buckets[bound] > below:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (buckets[bound] - below)
        low, below = bound, buckets[bound]
    return low
