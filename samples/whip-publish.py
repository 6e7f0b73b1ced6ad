#!/usr/bin/env python3
"""Publishes a file over WebRTC (WHIP), at its own pace: whip-publish.py FILE STREAM [H264|VP8]

With aiortc (`pip install aiortc`), which decodes the file and encodes it again as the network and the server like it.
"""

import asyncio
import os
import sys
import urllib.request

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer

SERVER = os.environ.get("KINORA_URL", "http://localhost:8080")


def call(method: str, url: str, body: str | None = None):
    headers = {"Authorization": f"Bearer {os.environ['KINORA_TOKEN']}", "Content-Type": "application/sdp"}
    request = urllib.request.Request(url, body and body.encode(), headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read().decode()


async def main(file: str, stream: str, codec: str = "H264") -> None:
    player = MediaPlayer(file)
    peer = RTCPeerConnection(RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    video = peer.addTransceiver(player.video, direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([one for one in codecs if one.name == codec])
    if player.audio:
        peer.addTransceiver(player.audio, direction="sendonly")
    await peer.setLocalDescription(await peer.createOffer())
    headers, answer = await asyncio.to_thread(call, "POST", f"{SERVER}/whip/{stream}", peer.localDescription.sdp)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    # A track ends with its file.
    ended = asyncio.Event()
    player.video.on("ended", ended.set)
    await ended.wait()
    await asyncio.to_thread(call, "DELETE", SERVER + headers["Location"])
    await peer.close()


asyncio.run(main(*sys.argv[1:]))
