"""Drives the program under test from outside: start, push, list, kill. Standard library only."""

import atexit
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


STARTED: list[tuple[subprocess.Popen, int, bytes]] = []


@atexit.register
def end_everything() -> None:
    """A test that failed leaves nothing running."""
    for process, pid, data in STARTED:
        if pid:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                # A number that another process has by now is not ours to end.
                if data in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        if process.poll() is None:
            process.kill()


class Died(Exception):
    """The server ended before it was ready; the text is what it said."""


class Server:
    """`kinora serve` on a data folder, perhaps under a tracer."""

    def __init__(self, kinora: str, data: Path, config: str = "", prefix: list[str] = []):
        self.kinora, self.data = kinora, data
        self.log_path = data.with_suffix(".log")
        file = data.with_suffix(".toml")
        file.write_text(config)
        doors = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*prefix, kinora, "serve", "--config", file, "--data-dir", data, *doors],
            stdout=subprocess.PIPE,
            stderr=self.log_path.open("a"),
        )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Died(self.log())
        ready = json.loads(line)
        self.pid = ready["pid"]
        STARTED.append((self.process, self.pid, str(data).encode()))
        self.http, self.rtsp, self.webrtc = f"http://{ready['http']}", ready["rtsp"], ready["webrtc"]
        self.admin = (data / "admin-token").read_text().strip()

    def log(self) -> str:
        return self.log_path.read_text()

    def call(self, method: str, path: str, body: dict | None = None) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self.admin}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.http + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, path: str):
        status, body = self.call("GET", path)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {body.decode()}")
        return json.loads(body)

    def secret(self) -> str:
        status, body = self.call("POST", "/v1/keys", {"kind": "publish_secret", "streams": "*"})
        assert status == 201, body
        return json.loads(body)["secret"]

    def push(self, secret: str, clip: str, stream: str, *options: str) -> "Camera":
        url = f"rtsp://camera:{secret}@{self.rtsp}/{stream}"
        return Camera([self.kinora, "publish", clip, url, *options])

    def streams(self) -> list[dict]:
        return self.json("/v1/streams?limit=1000")["streams"]

    def fragments(self, stream: str) -> dict[str, dict]:
        """Number to description of every persisted fragment."""
        found, cursor = {}, ""
        while True:
            page = self.json(f"/v1/streams/{stream}/fragments?limit=1000{cursor}")
            found |= {fragment["number"]: fragment for fragment in page["fragments"]}
            if not page.get("cursor"):
                return found
            cursor = f"&cursor={page['cursor']}"

    def segments(self, stream: str) -> dict[str, str]:
        """Address to hash of every picture segment, over all recorded time."""
        status, body = self.call("GET", f"/hls/{stream}/video.m3u8?from=0")
        if status != 200:
            return {}
        # A gap has an address that leads nowhere.
        uris = [line.split("?")[0] for line in body.decode().splitlines() if ".m4s" in line and not line.startswith("gap/")]
        found = {}
        for uri in uris:
            path = f"/hls/{stream}/{uri}"
            status, media = self.call("GET", path)
            assert status == 200, (path, status, media)
            found[path] = hashlib.sha256(media).hexdigest()
        return found

    def kill(self) -> None:
        """`kill -9`, and waits until it is gone: the tracer, if there is one, may be gone before or after."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        wait_for("the server to be gone", 20, lambda: not Path(f"/proc/{self.pid}").exists())

    def stop(self) -> int:
        subprocess.run(["kill", "-TERM", str(self.pid)], check=True)
        return self.process.wait(30)


class Camera:
    """`kinora publish`, started again whenever it gives up, as a camera does."""

    def __init__(self, command: list):
        self.command, self.stopped = command, threading.Event()
        self.start()
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        STARTED.append((self.process, 0, b""))

    def keep(self) -> None:
        while not self.stopped.wait(0.5):
            if self.process.poll() is not None:
                self.start()

    def stop(self) -> None:
        self.stopped.set()
        self.keeper.join()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_) -> None:
        self.stop()


def wait_for(what: str, seconds: float, ask):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def store_check(kinora: str, data: Path) -> None:
    """Every numbered invariant of the store holds."""
    done = subprocess.run([kinora, "store", "check", "--data-dir", data, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
