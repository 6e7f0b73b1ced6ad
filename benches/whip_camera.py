#!/usr/bin/env python3
"""Connects a WHIP camera again and again: whip_camera.py HTTP TOKEN STREAM, until its standard input ends.

Each try writes a line of JSON: the seconds from before the offer is sent until DTLS is up, or why it failed. Needs aiortc.
"""

import asyncio
import json
import sys
import threading
import time
import urllib.error
import urllib.request

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack

GIVEN_UP = 10


def call(method: str, url: str, token: str, body: str | None = None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
    request = urllib.request.Request(url, body and body.encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=GIVEN_UP) as answer:
        return answer.headers, answer.read().decode()


async def connect(http: str, token: str, stream: str) -> dict:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    try:
        peer.addTransceiver(VideoStreamTrack(), direction="sendonly")
        await peer.setLocalDescription(await peer.createOffer())
        connected = asyncio.Event()
        peer.on("connectionstatechange", lambda: peer.connectionState == "connected" and connected.set())
        started = time.monotonic()
        headers, answer = await asyncio.to_thread(call, "POST", f"http://{http}/whip/{stream}", token, peer.localDescription.sdp)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await asyncio.wait_for(connected.wait(), GIVEN_UP)
        taken = time.monotonic() - started
        await asyncio.to_thread(call, "DELETE", f"http://{http}{headers['Location']}", token)
        return {"seconds": round(taken, 3)}
    except urllib.error.HTTPError as error:
        return {"error": f"{error.code} {error.read().decode()[:200]}"}
    except (OSError, asyncio.TimeoutError) as error:
        return {"error": type(error).__name__}
    finally:
        await peer.close()


async def main(http: str, token: str, stream: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.is_set():
        print(json.dumps(await connect(http, token, stream)), flush=True)
        await asyncio.to_thread(over.wait, 2)


asyncio.run(main(*sys.argv[1:]))
