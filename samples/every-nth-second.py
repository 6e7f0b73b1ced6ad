#!/usr/bin/env python3
"""A picture of every n-th second of a day, into a folder: every-nth-second.py STREAM START N FOLDER

START is when the day begins, such as 2026-05-01T00:00:00Z. Pictures come as they are decoded, and gaps are left out. One that
cannot be decoded is a line that says so, and the others follow.
"""

import base64
import datetime
import json
import os
import sys
import urllib.parse
import urllib.request
from pathlib import Path

stream, start, n, folder = sys.argv[1:]
end = datetime.datetime.fromisoformat(start.replace("Z", "+00:00")) + datetime.timedelta(days=1)
asked = urllib.parse.urlencode({"from": start, "to": end.isoformat(), "every": f"{n}s", "width": 640})
request = urllib.request.Request(
    f"{os.environ.get('KINORA_URL', 'http://localhost:8080')}/v1/streams/{stream}/frames?{asked}",
    headers={"Authorization": f"Bearer {os.environ['KINORA_TOKEN']}", "Accept": "application/x-ndjson"},
)
Path(folder).mkdir(parents=True, exist_ok=True)
with urllib.request.urlopen(request) as answer:
    for line in answer:
        picture = json.loads(line)
        if "error" in picture:
            print(picture.get("time", picture.get("asked")), picture["error"]["message"], file=sys.stderr)
            continue
        name = picture["time"].replace("-", "").replace(":", "")
        Path(folder, f"{stream}-{name}.jpg").write_bytes(base64.b64decode(picture["data"]))
        print(picture["time"], "damaged" if picture["damaged"] else "")
