// Clips in a bare <video src>, over HTTP with ranges: the first picture is the one that was asked for, the length is right, a
// seek shows the picture of its time, and sound stays with the picture.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, browser, frameNumber, sleep, waitFor } from "./kinora.mjs";
import { beepsAfterFlashes, median, pageServer } from "./page.mjs";

let server, chrome, pages, page, token;

before(async () => {
  server = await Server.start();
  for (const name of ["plain", "bframes", "opengop", "gop10"]) server.push(name, `${name}.mp4`);
  for (const _ of [1, 2]) {
    const stop = server.push("flash", "flash-beep.mp4");
    await sleep(11_500);
    await stop();
  }
  await waitFor("the recordings", 40, async () => (await server.fragments("gop10")).length >= 3);
  for (const name of ["plain", "bframes", "opengop"]) {
    await waitFor(name, 20, async () => (await server.fragments(name)).length === 8);
  }
  token = (await server.call("POST", "/v1/tokens", { label: "page", streams: "*", actions: ["play"], playback: true })).token;
  chrome = await browser();
  pages = await pageServer();
  page = await chrome.newPage();
});

after(async () => {
  await chrome?.close();
  pages?.stop();
  await server?.stop();
});

/** The address of the clip from a little before picture `from` to a little before picture `to` of the stream's first session. */
async function address(stream, from, to, more = "") {
  const first = Date.parse((await server.fragments(stream))[0].producer_time.replace(/(\.\d{3})\d*Z/, "$1Z"));
  const before = (picture) => first + picture * 40 - 5;
  return `${server.http}/v1/streams/${stream}/clip.mp4?from=${before(from)}&to=${before(to)}&token=${token}${more}`;
}

async function open(url) {
  await page.goto(pages.origin);
  await page.evaluate(async (src) => {
    const video = document.querySelector("video");
    video.crossOrigin = "anonymous";
    video.preload = "auto";
    video.src = src;
    await new Promise((done, fail) => {
      video.onloadeddata = done;
      video.onerror = () => fail(new Error(video.error.message));
    });
  }, url);
  await sleep(200);
}

const counter = () => page.evaluate(`(${frameNumber})(document.querySelector("video"))`);
const length = () => page.evaluate(() => document.querySelector("video").duration);

async function seek(seconds) {
  await page.evaluate(async (at) => {
    const video = document.querySelector("video");
    const done = new Promise((end) => (video.onseeked = end));
    video.currentTime = at;
    await done;
  }, seconds);
  await sleep(200);
  return counter();
}

const clips = [
  ["plain", 37, 137, ""],
  ["bframes", 25, 125, ""],
  ["bframes", 37, 137, ""],
  ["opengop", 61, 161, ""],
  ["gop10", 137, 237, ""],
  ["bframes", 25, 125, "&format=fmp4"],
  ["bframes", 37, 137, "&format=fmp4"],
  ["gop10", 137, 237, "&format=fmp4"],
];

for (const [stream, from, to, more] of clips) {
  test(`${stream}${more} from picture ${from} starts on it, seeks, and plays to its end`, { timeout: 60_000 }, async () => {
    await open(await address(stream, from, to, more));
    assert.equal(await counter(), from);
    const seconds = await length();
    // Of a fragmented file Chromium counts in what is hidden before the first picture.
    const hidden = more === "" ? 0 : 10;
    assert.ok(seconds > (to - from) / 25 - 0.06 && seconds < (to - from) / 25 + 0.06 + hidden, `${seconds} s`);
    // Chromium cannot start at the open access points of H.264, in the clip that was pushed no more than here.
    for (const second of stream === "opengop" ? [] : [2, 0.4, 3, 0]) {
      const shown = await seek(second + 0.02 + (more !== "" && from === 25 ? 0.08 : 0));
      assert.equal(shown, Math.round(from + second * 25), `at ${second} s`);
    }
    await page.evaluate(async () => {
      const video = document.querySelector("video");
      const ended = new Promise((done) => (video.onended = done));
      video.playbackRate = 4;
      await video.play();
      await ended;
    });
    const last = await counter();
    assert.ok(last >= to - 2 && last < to + (more === "" ? 1 : 3), `the last picture shown is ${last}`);
  });
}

// Chromium plays sound by its count of samples: with gaps=keep the pause must be there as silence.
for (const more of ["", "&format=fmp4", "&gaps=keep", "&gaps=keep&format=fmp4"]) {
  test(`sound stays with the picture over the joint of two sessions ${more}`, { timeout: 60_000 }, async () => {
    const url = await address("flash", 113, 700, more);
    await page.goto(pages.origin);
    const offsets = await page.evaluate(beepsAfterFlashes, url);
    assert.ok(offsets.length >= 9, `only ${offsets.length} flashes with a beep`);
    const [before, behind] = [offsets.slice(0, 4), offsets.slice(-4)].map(median);
    assert.ok(Math.abs(before - behind) < 40, `${before.toFixed(1)} ms before the joint, ${behind.toFixed(1)} ms behind it`);
  });
}
