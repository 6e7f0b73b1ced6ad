// Watches a stream over WebRTC in Chromium, again and again: how soon there is a picture, and how old it is.
//
//   node benches/webrtc.mjs http://HOST:PORT TOKEN LOG [whip]
//
// The stream is `camera`, and LOG is what its camera writes (camera.py). Prints JSON. `first`: from the decision to watch until
// the first picture is on the screen. `glass`: from sending a picture until it is on the screen, in the second that begins
// three seconds after the start; of each start the median. `whip`: from drawing a picture in a page that publishes it over WHIP
// until it is on the screen of another that watches it over WHEP.

import { readFileSync } from "node:fs";

import { browser, frameNumber, sleep, waitFor } from "../tests/web/kinora.mjs";
import { rtcFlags, watch } from "../tests/web/rtc.mjs";

const [http, token, log, whip] = process.argv.slice(2);
const starts = 20;
const settleMs = 3_000;
const lookMs = 1_000;

/** The same moments at every run. */
let seed = 20_260_101;
function random() {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
}

/** In the page: notes the number of each picture that is shown, and when it is. */
function look(read) {
  const video = document.querySelector("video");
  const shown = (window.shown = []);
  // By the time of day, which the camera has too.
  const origin = Date.now() - performance.now();
  const note = (_, { expectedDisplayTime }) => {
    const number = read(video, 1280);
    if (number !== null) shown.push([number, origin + expectedDisplayTime]);
    if (window.shown === shown) video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
}

/** In the page: what was noted, and no more. */
function looked() {
  const { shown } = window;
  window.shown = undefined;
  return shown;
}

/** In the page: publishes a canvas that counts its pictures over WHIP. */
async function publishCanvas([address, token]) {
  const canvas = document.body.appendChild(document.createElement("canvas"));
  [canvas.width, canvas.height] = [1280, 720];
  const context = canvas.getContext("2d");
  const drawn = (window.drawn = []);
  const square = (at, white) => {
    context.fillStyle = white ? "white" : "black";
    context.fillRect(16 * at, 0, 16, 16);
  };
  setInterval(() => {
    const number = drawn.length;
    context.fillStyle = `hsl(${number % 360} 50% 50%)`;
    context.fillRect(0, 16, 1280, 704);
    context.fillStyle = "white";
    context.fillRect((number * 7) % 1280, 300, 100, 100);
    square(0, true);
    for (let bit = 0; bit < 16; bit += 1) square(16 - bit, (number >> bit) & 1);
    square(17, false);
    drawn.push([number, Date.now()]);
  }, 1000 / 30);
  const peer = (window.publisher = new RTCPeerConnection());
  const stream = canvas.captureStream(30);
  const transceiver = peer.addTransceiver(stream.getVideoTracks()[0], { direction: "sendonly", streams: [stream] });
  const codecs = RTCRtpSender.getCapabilities("video").codecs;
  transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => ["video/H264", "video/rtx"].includes(mimeType)));
  await peer.setLocalDescription();
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/sdp" };
  const answer = await fetch(address, { method: "POST", headers, body: peer.localDescription.sdp });
  if (!answer.ok) throw new Error(await answer.text());
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}

/** How old each picture was when it was shown, by when those of its number were made. */
function ages(shown, made) {
  return shown.flatMap(([number, at]) => {
    const before = made.findLast(([of, time]) => of === number && time <= at);
    return before === undefined ? [] : [at - before[1]];
  });
}

const shares = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { count: sorted.length, p50: at(0.5), p95: at(0.95), most: at(1) };
};

const sent = () =>
  readFileSync(log, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => line.split(" "))
    .map(([number, nanos]) => [Number(number), Number(nanos) / 1e6]);

async function newPage(chrome) {
  const page = await chrome.newPage({ viewport: { width: 1280, height: 720 } });
  // Of the same origin, as the console is: no question of CORS goes before the offer.
  await page.goto(http);
  return page;
}

/** Starts to watch, and waits for the first picture; how long it took. */
async function start(page, stream) {
  const { status, message } = await page.evaluate(watch, [`${http}/whep/${stream}`, token]);
  if (status !== 201) throw new Error(`${status}: ${message}`);
  return waitFor("the first picture", 20, () => page.evaluate(() => window.firstPicture));
}

/** The numbers of the pictures that are shown a while after the start, and when they were. */
async function later(page) {
  await sleep(settleMs - (await page.evaluate(() => performance.now() - window.started)));
  await page.evaluate(`(${look})(${frameNumber})`);
  await sleep(lookMs);
  return page.evaluate(looked);
}

const chrome = await browser(...rtcFlags);
try {
  const first = [];
  const glass = [];
  const page = await newPage(chrome);
  // The browser's own first time is not ours.
  await start(page, "camera");
  for (let count = 0; count < starts; count += 1) {
    await page.evaluate(() => {
      window.viewer.close();
      document.querySelector("video").remove();
    });
    await sleep(2_000 * random());
    first.push(await start(page, "camera"));
    const shown = await later(page);
    glass.push(shares(ages(shown, sent())));
  }
  const worst = shares(glass.map(({ p50 }) => p50));
  const found = { first: shares(first), firsts: first, glass: worst, glasses: glass };
  if (whip !== undefined) {
    const publisher = await newPage(chrome);
    await publisher.evaluate(publishCanvas, [`${http}/whip/canvas`, token]);
    await waitFor("the canvas", 20, async () => {
      const answer = await fetch(`${http}/hls/canvas/video.m3u8`, { headers: { authorization: `Bearer ${token}` } });
      return answer.ok;
    });
    const viewer = await newPage(chrome);
    await start(viewer, "canvas");
    const shown = await later(viewer);
    found.whip = shares(ages(shown, await publisher.evaluate(() => window.drawn)));
  }
  process.stdout.write(`${JSON.stringify(found)}\n`);
} finally {
  await chrome.close();
}
