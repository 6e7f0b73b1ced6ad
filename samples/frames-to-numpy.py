#!/usr/bin/env python3
"""Pictures of a range as one NumPy array: frames-to-numpy.py STREAM FROM TO EVERY   (such as 1s)"""
import base64, io, json, os, sys, urllib.request
import numpy

stream, start, end, every = sys.argv[1:]
url = os.environ.get("KINORA_URL", "http://localhost:8080") + f"/v1/streams/{stream}/frames"
headers = {"Authorization": f"Bearer {os.environ['KINORA_TOKEN']}", "Accept": "application/x-ndjson"}
request = urllib.request.Request(f"{url}?from={start}&to={end}&every={every}&format=npy&width=640", headers=headers)
# In place of a picture that is damaged stands an error.
lines = [line for line in map(json.loads, urllib.request.urlopen(request)) if "data" in line]
array = numpy.stack([numpy.load(io.BytesIO(base64.b64decode(line["data"]))) for line in lines])
print(array.shape, array.dtype, "from", lines[0]["time"], "to", lines[-1]["time"])
