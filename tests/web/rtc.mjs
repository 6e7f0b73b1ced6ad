// WebRTC in the page: a publisher and a viewer as any page would write them, by WHIP and WHEP alone.

import { createSocket } from "node:dgram";

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

/** In the page: publishes the camera to an address over WHIP as `codec` (`video/H264`), with this token, in these layers. */
export async function publish([address, token, codec, constraints, layers]) {
  const camera = await navigator.mediaDevices.getUserMedia(constraints ?? { video: { width: 640, height: 360, frameRate: 30 }, audio: true });
  const peer = new RTCPeerConnection();
  for (const track of camera.getTracks()) {
    const sendEncodings = track.kind === "video" ? layers : undefined;
    const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [camera], sendEncodings });
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
  const [end] = [...window[name].getSenders(), ...window[name].getReceivers()].filter((one) => one.transport);
  return { ...found, codec: codec?.mimeType, connection: window[name].connectionState, transport: end?.transport.state };
}

/**
 * In the page: notes every picture that the viewer shows from now on, with when it came and the number drawn in it
 * (`frameNumber` as text), in `window.pictures`.
 */
export function notePictures(frameNumber) {
  const read = eval(`(${frameNumber})`);
  const [track] = document.querySelector("video").srcObject.getVideoTracks();
  const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 60 }).readable.getReader();
  const pictures = [];
  window.pictures = pictures;
  const canvas = new OffscreenCanvas(1, 1);
  const look = async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      canvas.width = value.displayWidth;
      canvas.height = 16;
      canvas.getContext("2d", { willReadFrequently: true }).drawImage(value, 0, 0);
      pictures.push({ at: performance.now(), number: read(canvas), width: value.displayWidth, timestamp: value.timestamp });
      value.close();
    }
  };
  look();
}

/** An answer that sends the browser to this port of loopback instead of the server's own. */
export const throughPort = (sdp, port) => sdp.replace(/^(a=candidate:\S+ \d+ udp \d+) \S+ \d+ /gm, `$1 127.0.0.1 ${port} `);

/**
 * A way between one browser and the server's UDP port that loses, swaps, doubles and delays datagrams, the same ones for the
 * same seed and order of sending. `way` has shares of 1: `loss`, `burst` (that a loss takes the next one with it), `swap`,
 * `double`; and `delay` in ms. RTP of the payload type `spared` is not touched: nobody sends lost sound again.
 */
export async function roughWay(server, way, seed = 1) {
  let state = BigInt(seed);
  const roll = () => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    return Number(state >> 40n) / 2 ** 24;
  };
  const near = createSocket("udp4");
  const far = createSocket("udp4");
  const [host, port] = server.webrtc.split(":");
  const counts = { passed: 0, lost: 0, swapped: 0, doubled: 0 };
  let browser;
  let stopped = false;
  let wayNow = {};
  const direction = (send) => {
    let held;
    let lostBefore = false;
    return (bytes) => {
      if (bytes[0] >= 128 && (bytes[1] & 127) === wayNow.spared) return send(bytes);
      lostBefore = roll() < (lostBefore ? (wayNow.burst ?? wayNow.loss ?? 0) : (wayNow.loss ?? 0));
      if (lostBefore) return (counts.lost += 1);
      counts.passed += 1;
      const later = (what) => (wayNow.delay ? setTimeout(() => stopped || send(what), wayNow.delay) : send(what));
      if (held === undefined && roll() < (wayNow.swap ?? 0)) {
        counts.swapped += 1;
        held = bytes;
        return;
      }
      later(bytes);
      if (roll() < (wayNow.double ?? 0)) {
        counts.doubled += 1;
        later(bytes);
      }
      if (held !== undefined) later(held);
      held = undefined;
    };
  };
  const out = direction((bytes) => far.send(bytes, Number(port), host));
  const back = direction((bytes) => near.send(bytes, browser.port, browser.address));
  near.on("message", (bytes, from) => {
    browser = from;
    out(bytes);
  });
  far.on("message", (bytes) => browser && back(bytes));
  await new Promise((done) => near.bind(0, "127.0.0.1", done));
  return {
    port: near.address().port,
    counts,
    /** From now on it is as bad as it was said to be. */
    begin: () => (wayNow = way),
    stop: () => {
      stopped = true;
      [near, far].forEach((socket) => socket.close());
    },
  };
}
