"""Drags the pointer over a day of recording in Chromium, and measures how far the picture is behind it."""

import json
import subprocess
import time
from pathlib import Path

from machine import Report, Server, folder_for_data, interrupt

RECORD_SECONDS = 60
BEHIND_MAX_MS = 300


def run(kinora: str, clips: Path, report: Report) -> None:
    here = Path(__file__).resolve().parent
    with folder_for_data() as folder:
        data = Path(folder) / "data"
        with Server(kinora, data) as server:
            publisher = server.publish(clips / "bench.mp4", "day", "--tcp", "--loop")
            time.sleep(RECORD_SECONDS)
            interrupt(publisher)
        # The day ends with the last full hour: the console shows nothing that is yet to come.
        end = int(time.time()) // 3600 * 3600
        command = ["cargo", "run", "--locked", "--release", "--quiet", "-p", "kinora-store", "--example", "day", "--"]
        subprocess.run([*command, data, "day", str(end)], check=True)
        with Server(kinora, data) as server:
            drag = ["node", here / "scrub.mjs", server.http, server.admin, str(end)]
            found = json.loads(subprocess.run(drag, check=True, capture_output=True, text=True).stdout)
    for key, name in (("drag", "key frames while dragging"), ("rest", "the exact picture where it rests")):
        figures = found[key]
        text = f"{name}: p50 {figures['p50']:.0f} ms, p95 {figures['p95']:.0f} ms, of {figures['count']}"
        if key == "drag":
            report.figure("behind_ms", figures, f"{text}; {found['pictures']} pictures shown")
            report.bar("behind_p95_ms", figures["p95"], BEHIND_MAX_MS, f"p95 {figures['p95']:.0f} ms, at most {BEHIND_MAX_MS}")
        else:
            report.figure("rest_ms", figures, text)
