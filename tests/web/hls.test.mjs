// hls.js in a real browser, on a page of another origin: live, past, seeks, a block border and a gap.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, browser, frameNumber, sleep, waitFor } from "./kinora.mjs";
import { pageServer, playHls } from "./page.mjs";

let server, chrome, page, pages, token, from;

before(async () => {
  // Blocks of three seconds, so that a few seconds cross several borders.
  server = await Server.start('[storage]\nblock_duration = "3s"\n');
  token = (await server.call("POST", "/v1/tokens", { label: "page", streams: "*", actions: ["play"], playback: true })).token;
  // Two sessions of the clip of 8 s with B-frames, and nothing for a while between.
  for (const _ of [1, 2]) {
    const stop = server.push("past", "bframes.mp4");
    await sleep(9000);
    await stop();
    await sleep(1500);
  }
  const fragments = await server.fragments("past");
  from = fragments[0].producer_time;
  server.push("live", "bframes.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await server.fragments("live")).length >= 4);
  chrome = await browser();
  pages = await pageServer();
  page = await chrome.newPage();
});

after(async () => {
  await chrome?.close();
  pages?.stop();
  await server?.stop();
});

const counter = () => page.evaluate(`(${frameNumber})(document.querySelector("video"))`);
const time = () => page.evaluate(() => document.querySelector("video").currentTime);
const problems = () => page.evaluate(() => window.problems.filter((what) => what !== "waiting"));

async function open(query, startPosition = -1) {
  await page.goto(pages.origin);
  await page.evaluate(playHls, [`${server.http}/hls/${query}token=${token}`, startPosition]);
  await waitFor("a picture", 20, async () => (await counter()) !== null);
}

test("live pictures change, and the counter grows", async () => {
  await open("live/index.m3u8?");
  const seen = new Set();
  await waitFor("the counter to grow", 15, async () => seen.add(await counter()).size > 20);
  assert.deepEqual(await problems(), []);
});

test("a past range plays over block borders and the gap to its end without stalling", async () => {
  const to = new Date(Date.now() + 1000).toISOString();
  await open(`past/index.m3u8?from=${from}&to=${to}&`, 0);
  const length = await page.evaluate(() => document.querySelector("video").duration);
  assert.ok(Math.abs(length - 16) < 1.2, `two sessions of 8 s, but the duration is ${length}`);
  let stalls = 0;
  for (let last = -1, at = await time(); at < length - 0.7; last = at, at = await time()) {
    await sleep(500);
    stalls = at === last ? stalls + 1 : 0;
    assert.ok(stalls < 3, `stalled at ${at} of ${length}: ${await page.evaluate(() => window.problems)}`);
  }
  assert.deepEqual(await problems(), []);
});

test("a seek shows the picture of that time", async () => {
  const to = new Date(Date.now() + 1000).toISOString();
  await open(`past/index.m3u8?from=${from}&to=${to}&`, 0);
  const start = await page.evaluate(() => window.hls.levels[0].details.fragments[0].start);
  for (const second of [6, 2, 13, 4]) {
    await page.evaluate((at) => {
      const video = document.querySelector("video");
      video.pause();
      video.currentTime = at;
    }, start + second + 0.5);
    await waitFor("the seek to end", 15, () => page.evaluate(() => !document.querySelector("video").seeking));
    await sleep(200);
    const shown = await counter();
    const expected = Math.round(((second % 8) + 0.5) * 25);
    assert.ok(Math.abs(shown - expected) <= 1, `at ${second} s: picture ${shown}, expected ${expected} or beside it`);
  }
});

test("a stream that starts in the past runs on into live", async () => {
  const start = (await server.fragments("live"))[0].producer_time;
  await open(`live/index.m3u8?from=${start}&`, 0);
  const seen = new Set();
  await waitFor("the counter to grow", 15, async () => seen.add(await counter()).size > 20);
  const known = () => page.evaluate(() => window.hls.levels[0].details.fragments.length);
  const before = await known();
  await waitFor("the playlist to grow", 15, async () => (await known()) > before);
});
