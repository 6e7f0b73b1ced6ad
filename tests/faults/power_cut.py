#!/usr/bin/env python3
"""Power cuts on a real ext4: what was acknowledged is there after each, byte for byte.

    tests/faults/power_cut.py KINORA CLIPS [CUTS]

The file system lies in an image behind a loop device. EXT4_IOC_SHUTDOWN without a flush of the journal stops it at once: what no
sync has brought to the image is gone, and the next mount replays the journal, as after a power cut. A disk that lies about its
own cache is not part of this.
"""

import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from kinora import Server, store_check, wait_for

# Linux, fs/ext4/ext4.h: _IOR('X', 125, __u32), and EXT4_GOING_FLAGS_NOLOGFLUSH.
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
STREAMS = [f"gate-{n}" for n in range(4)]
# Blocks end and are dropped while the power goes, too.
CONFIG = '[storage]\nblock_duration = "4s"\nsweep_interval = "1s"\n'

if os.geteuid() != 0:
    print("power cuts: NOT RUN, they need root for a loop mount")
    sys.exit(0)

kinora, clips = sys.argv[1:3]
cuts = int(sys.argv[3]) if len(sys.argv) > 3 else 30
seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
print(f"SEED={seed}")
luck = random.Random(seed)

folder = Path(tempfile.mkdtemp(prefix="kinora-power-"))
image, mount = folder / "image", folder / "mount"
mount.mkdir()
with image.open("wb") as file:
    file.truncate(2 << 30)
subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)


def plug_in() -> None:
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)


def cut() -> None:
    root = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(root)


class Notes:
    """What the server has said to be stored, written down while it records."""

    def __init__(self, server: Server):
        self.server = server
        self.listed: dict[str, set[str]] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.over.is_set():
            for stream in STREAMS:
                try:
                    status, _ = self.server.call("GET", f"/v1/streams/{stream}")
                    if status == 200:
                        # What is listed now was acknowledged before; a listing after the cut may be of the memory alone, and is
                        # as binding: nothing is listed before it is synced.
                        found = set(self.server.fragments(stream))
                        self.listed[stream] = self.listed.get(stream, set()) | found
                except (AssertionError, OSError, ValueError):
                    pass

    def close(self) -> dict[str, set[str]]:
        self.over.set()
        self.thread.join()
        return self.listed


plug_in()
# The folder's name beside the log, which is to survive.
(mount / "data").mkdir()
os.sync()
data = folder / "data"
data.symlink_to(mount / "data")
promised: dict[str, set[str]] = {stream: set() for stream in STREAMS}
segments: dict[str, str] = {}
cameras, server = [], None
try:
    server = Server(kinora, data, CONFIG)
    secret = server.secret()
    for number in range(1, cuts + 1):
        cameras = [server.push(secret, f"{clips}/plain.mp4", stream, "--loop") for stream in STREAMS]
        notes = Notes(server)
        before = sum(len(found) for found in promised.values())
        wait_for("something new", 30, lambda: sum(len(found) for found in notes.listed.values()) > before)
        time.sleep(luck.uniform(0.0, 3.0))
        # Contents of one of them as they are before; those of all were looked at after the last cut.
        segments |= server.segments(luck.choice(STREAMS))
        time.sleep(luck.uniform(0.0, 1.0))
        cut()
        listed = notes.close()
        server.kill()
        while cameras:
            cameras.pop().stop()
        subprocess.run(["umount", mount], check=True)
        plug_in()
        started = time.monotonic()
        server = Server(kinora, data, CONFIG)
        ready = time.monotonic() - started
        for stream in STREAMS:
            promised[stream] |= listed.get(stream, set())
            there = set(server.fragments(stream)) if promised[stream] else set()
            missing = promised[stream] - there
            assert not missing, f"cut {number}: {stream} lost {len(missing)} of {len(promised[stream])}: {sorted(missing)[:3]}"
            now = server.segments(stream)
            changed = [path for path in segments if path.startswith(f"/hls/{stream}/") and now.get(path) != segments[path]]
            assert not changed, f"cut {number}: {stream} changed {changed[:3]}"
            segments |= now
            # What came between our last look and the cut is there too, or was never acknowledged.
            promised[stream] |= there
        assert "panicked" not in server.log(), server.log()
        total = sum(len(found) for found in promised.values())
        print(f"cut {number}: {total - before} fragments since the last, all {total} there and equal, ready in {ready:.2f} s", flush=True)
        assert total > before
    assert server.stop() == 0
    store_check(kinora, data)
    print(f"power cuts: {cuts} passed, 0 failed")
except BaseException:
    if server:
        print(server.log()[-6000:], file=sys.stderr)
    print(f"again with SEED={seed}", file=sys.stderr)
    raise
finally:
    for camera in cameras:
        camera.stop()
    if server:
        server.kill()
    subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)
