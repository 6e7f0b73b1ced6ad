"""Serves one segment of about 1 MB beside nginx, under the same load, and compares processor time per MB."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from machine import Report, Server, cpu_seconds, folder_for_data, interrupt

SECONDS = 10
MEMORY_MAX, PAGE_CACHE_MAX = 1.6, 2.5
# Four key picture intervals of the clip are about 1 MB; the tail holds the segment for as long as it is asked for.
CONFIG = """
[log]
filter = "warn"
[storage]
soft_free_permille = 20
hard_free_permille = 10
[live]
fragment_min = "4s"
fragment_max = "10s"
tail_bytes = "512MiB"
"""


def run(kinora: str, clips: Path, report: Report) -> None:
    with folder_for_data() as folder:
        data = Path(folder) / "data"
        with Server(kinora, data, CONFIG) as server:
            publisher = server.publish(clips / "bench.mp4", "camera", "--tcp", "--loop")
            uri = wait_for_segment(server)
            body = server.get(uri)
            # The camera goes on, so that the segment stays in the tail: what it costs is taken off.
            camera = rate(server.pid)
            memory = load(server.http + uri, [server.pid], server.admin, camera)
            interrupt(publisher)
        # A server that has just started has nothing in memory of its own.
        with Server(kinora, data, CONFIG) as server:
            server.get(uri)
            cached = load(server.http + uri, [server.pid], server.admin)
        report.figure("segment_bytes", len(body), f"{len(body) / 1e6:.2f} MB")
        for key, ours, files, most in (
            ("memory", memory, "/dev/shm", MEMORY_MAX),
            ("page_cache", cached, folder, PAGE_CACHE_MAX),
        ):
            theirs = nginx(body, files)
            report.figure(f"{key}_us_per_mb", {"kinora": ours * 1e6, "nginx": theirs * 1e6}, f"{ours * 1e6:.0f} us")
            text = f"{ours / theirs:.2f} times nginx ({theirs * 1e6:.0f} us), at most {most}"
            report.bar(f"{key}_ratio", ours / theirs, most, text)


def wait_for_segment(server: Server) -> str:
    """The address of a whole segment in the middle of the live playlist."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        playlist = server.get("/hls/camera/video.m3u8")
        uris = [line for line in (playlist or b"").decode().splitlines() if ".m4s" in line]
        if len(uris) >= 3:
            return f"/hls/camera/{uris[1]}"
        time.sleep(1)
    raise SystemExit("no segment after 60 s")


def rate(pid: int) -> float:
    """Processor time a second of a process that is left alone."""
    before, started = cpu_seconds(pid), time.monotonic()
    time.sleep(5)
    return (cpu_seconds(pid) - before) / (time.monotonic() - started)


def load(url: str, pids: list[int], token: str | None = None, besides: float = 0.0) -> float:
    """Processor seconds per MB that `pids` take to serve `url`; `besides` is what they take a second anyhow."""
    header = ["-H", f"Authorization: Bearer {token}"] if token else []
    wrk = ["wrk", "-t1", "-c8", *header]
    subprocess.run([*wrk, "-d1s", url], check=True, capture_output=True)
    before, started = sum(map(cpu_seconds, pids)), time.monotonic()
    said = subprocess.run([*wrk, f"-d{SECONDS}s", url], check=True, capture_output=True, text=True).stdout
    wall = time.monotonic() - started
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)
    taken = sum(map(cpu_seconds, pids)) - before - besides * wall
    return taken / read_megabytes(said)


def read_megabytes(said: str) -> float:
    """From wrk's "N requests in T, X.XXGB read"; its units are powers of 1024."""
    amount = said.split(" requests in ", 1)[1].split(", ", 1)[1].split(" read", 1)[0]
    units = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
    return float(amount[:-2]) * units[amount[-2:]] / 1e6


def nginx(body: bytes, folder: str) -> float:
    """Processor seconds per MB that nginx takes to serve `body` from a file in `folder`."""
    root = Path(tempfile.mkdtemp(prefix="kinora-bench-nginx-", dir=folder))
    (root / "segment.m4s").write_bytes(body)
    socket_port = free_port()
    config = root / "nginx.conf"
    # Started by root, its workers would give that up and not reach the file; started by others, `user` is ignored.
    config.write_text(
        f"""
worker_processes 2;
user root;
daemon off;
pid {root}/pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  types {{ video/mp4 m4s; }}
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{socket_port}; root {root}; }}
}}
"""
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-p", root, "-c", config, "-e", "stderr"], stderr=subprocess.DEVNULL)
    try:
        workers = wait_for_workers(process.pid)
        return load(f"http://127.0.0.1:{socket_port}/segment.m4s", workers)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(root)


def wait_for_workers(master: int) -> list[int]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        if len(children) == 2:
            time.sleep(0.2)
            return [int(child) for child in children]
        time.sleep(0.05)
    raise SystemExit("nginx did not start")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
