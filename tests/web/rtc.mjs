// WebRTC in the page: a publisher and a viewer as any page would write them, by WHIP and WHEP alone.

/** Flags for a browser whose camera is a test picture, and whose peers may be on this machine. */
export const rtcFlags = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

/** In the page: watches an address over WHEP with this token; the video element shows it. */
export async function watch([address, token]) {
  const peer = new RTCPeerConnection();
  const video = document.querySelector("video") ?? document.body.appendChild(document.createElement("video"));
  video.muted = true;
  video.autoplay = true;
  const shown = new MediaStream();
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.addTransceiver("audio", { direction: "recvonly" });
  peer.ontrack = (event) => {
    shown.addTrack(event.track);
    video.srcObject = shown;
  };
  window.started = performance.now();
  window.firstPicture = undefined;
  video.requestVideoFrameCallback?.(() => (window.firstPicture = performance.now() - window.started));
  await peer.setLocalDescription();
  const answer = await fetch(address, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  const text = await answer.text();
  window.viewer = peer;
  if (!answer.ok) return { status: answer.status, ...JSON.parse(text).error };
  await peer.setRemoteDescription({ type: "answer", sdp: text });
  void video.play().catch(() => undefined);
  return { status: answer.status, location: answer.headers.get("location"), etag: answer.headers.get("etag"), sdp: text };
}

/** In the page: publishes the camera to an address over WHIP as `codec` (`video/H264`), with this token. */
export async function publish([address, token, codec, constraints]) {
  const camera = await navigator.mediaDevices.getUserMedia(constraints ?? { video: { width: 640, height: 360, frameRate: 30 }, audio: true });
  const peer = new RTCPeerConnection();
  for (const track of camera.getTracks()) {
    const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [camera] });
    if (track.kind !== "video" || codec === undefined) continue;
    const all = RTCRtpSender.getCapabilities("video").codecs;
    const chosen = all.filter((one) => one.mimeType === codec || one.mimeType === "video/rtx");
    transceiver.setCodecPreferences(chosen);
  }
  await peer.setLocalDescription();
  const answer = await fetch(address, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  const text = await answer.text();
  window.publisher = peer;
  if (!answer.ok) return { status: answer.status, ...JSON.parse(text).error };
  await peer.setRemoteDescription({ type: "answer", sdp: text });
  return { status: answer.status, location: answer.headers.get("location"), etag: answer.headers.get("etag"), sdp: text };
}

/** In the page: what `getStats` says of the picture that comes or goes. */
export async function pictureStats(name) {
  const report = await window[name].getStats();
  const found = [...report.values()].find((one) => ["inbound-rtp", "outbound-rtp"].includes(one.type) && one.kind === "video");
  const codec = found?.codecId && report.get(found.codecId);
  return { ...found, codec: codec?.mimeType, connection: window[name].connectionState };
}
