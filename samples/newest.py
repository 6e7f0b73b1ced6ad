#!/usr/bin/env python3
"""The newest picture as a NumPy array, over and over: newest.py STREAM [COUNT]

It is taken out of what is still being received: as old as the way from the camera is long, not as a segment.
"""

import io
import os
import sys
import time
import urllib.request

import numpy

stream, left = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else -1
request = urllib.request.Request(
    f"{os.environ.get('KINORA_URL', 'http://localhost:8080')}/v1/streams/{stream}/frames?at=latest&format=npy&width=640",
    headers={"Authorization": f"Bearer {os.environ['KINORA_TOKEN']}"},
)
seen = None
while left != 0:
    with urllib.request.urlopen(request) as answer:
        taken, picture = answer.headers["Kinora-Time"], numpy.load(io.BytesIO(answer.read()))
    if taken == seen:
        time.sleep(0.02)
        continue
    seen, left = taken, left - 1
    print(taken, picture.shape, f"brightness {picture.mean():.1f}", flush=True)
