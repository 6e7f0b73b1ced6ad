#!/usr/bin/env python3
"""A file system of 200 MB filled to the brim: reads and deletion go on, ingest resumes by itself.

    tests/faults/full_disk.py KINORA CLIPS
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kinora import Server, store_check, wait_for

# Without root, a mount needs a name space of its own.
if os.geteuid() != 0:
    os.execvp("unshare", ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv])

CONFIG = '[storage]\nsweep_interval = "1s"\nblock_duration = "5s"\n'
kinora, clips = sys.argv[1:3]
mount = Path(tempfile.mkdtemp(prefix="kinora-full-"))
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", mount], check=True)
cameras = []
server = None
try:
    # Its log is on the full volume too, as it is on many a machine.
    server = Server(kinora, mount / "data", CONFIG)
    secret = server.secret()
    cameras = [server.push(secret, f"{clips}/plain.mp4", name, "--loop") for name in ("keep", "drop")]
    wait_for("fragments", 30, lambda: server.call("GET", "/v1/streams/keep")[0] == 200 and len(server.fragments("keep")) > 6)
    before = server.segments("keep")
    assert before

    # Killed, and the volume filled meanwhile: it starts by itself, with the room that it kept.
    while cameras:
        cameras.pop().stop()
    server.kill()
    with (mount / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    server = Server(kinora, mount / "data", CONFIG)
    again = server.segments("keep")
    assert again and all(again[path] == before[path] for path in before if path in again), "a segment changed"
    print(f"started after a kill with the volume full: {len(again)} segments")
    (mount / "ballast").unlink()
    secret = server.secret()
    wait_for("room", 30, lambda: server.json("/v1/server")["space"]["free_bytes"] > (100 << 20))
    cameras = [server.push(secret, f"{clips}/plain.mp4", name, "--loop") for name in ("keep", "drop")]
    wait_for("fragments", 30, lambda: set(server.segments("keep")) - set(again))
    before = server.segments("keep")

    ballast = mount / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    print("full: ", os.statvfs(mount).f_bavail, "blocks free")
    time.sleep(6)
    assert server.process.poll() is None, server.log()
    status, _ = server.call("GET", "/v1/streams/keep")
    assert status == 200
    after = server.segments("keep")
    kept = [path for path in before if path in after]
    assert kept, "every segment is gone"
    assert all(after[path] == before[path] for path in kept), "a listed segment changed"
    print(f"reads go on: {len(kept)} of {len(before)} segments of before are there and equal, the rest gave way")

    cameras.pop().stop()
    status, body = server.call("DELETE", "/v1/streams/drop")
    assert status in (200, 202, 204), (status, body)
    wait_for("the deletion", 10, lambda: server.call("GET", "/v1/streams/drop")[0] == 404)
    print("deletion goes on")

    known = set(server.fragments("keep"))
    ballast.unlink()
    wait_for("ingest to resume", 45, lambda: len(set(server.fragments("keep")) - known) > 3)
    print("ingest resumed by itself")
    assert "panicked" not in server.log(), server.log()
    while cameras:
        cameras.pop().stop()
    assert server.stop() == 0
    store_check(kinora, mount / "data")
    print("full disk: 1 passed, 0 failed")
except BaseException:
    if server:
        print(server.log()[-6000:], file=sys.stderr)
    raise
finally:
    for camera in cameras:
        camera.stop()
    if server:
        server.kill()
    subprocess.run(["umount", "-l", mount], check=False)
