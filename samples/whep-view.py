#!/usr/bin/env python3
"""Watches a stream over WebRTC (WHEP) as NumPy arrays: whep-view.py STREAM [COUNT]   (pictures; for ever without)

With aiortc (`pip install aiortc`). The delay is that of the network and the decoder.
"""

import asyncio
import os
import sys
import urllib.request

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

SERVER = os.environ.get("KINORA_URL", "http://localhost:8080")


def call(method: str, url: str, body: str | None = None):
    headers = {"Authorization": f"Bearer {os.environ['KINORA_TOKEN']}", "Content-Type": "application/sdp"}
    request = urllib.request.Request(url, body and body.encode(), headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read().decode()


async def main(stream: str, count: str = "-1") -> None:
    peer = RTCPeerConnection(RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    video = peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    headers, answer = await asyncio.to_thread(call, "POST", f"{SERVER}/whep/{stream}", peer.localDescription.sdp)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    left = int(count)
    while left != 0:
        frame = await video.receiver.track.recv()
        left -= 1
        picture = frame.to_ndarray(format="rgb24")
        print(f"{frame.time:.3f} s", picture.shape, f"brightness {picture.mean():.1f}", flush=True)
    await asyncio.to_thread(call, "DELETE", SERVER + headers["Location"])
    await peer.close()


asyncio.run(main(*sys.argv[1:]))
