// VP8, VP9 and AV1 in the console and in a bare <video src>: what Chromium plays of them, and what people are told when it plays
// nothing.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, clip, frameNumber, precise, waitFor } from "./kinora.mjs";
import { pageServer } from "./page.mjs";
import { rtcFlags } from "./rtc.mjs";

const across = 640;
const folder = mkdtempSync(join(tmpdir(), "kinora-codecs-"));
const fast = ["-g", "25", "-b:v", "1M", "-cpu-used", "8"];
const encoders = {
  vp8: [["-c:v", "libvpx", "-deadline", "realtime", ...fast], "webm"],
  vp9: [["-c:v", "libvpx-vp9", "-deadline", "realtime", ...fast], "mp4"],
  av1: [["-c:v", "libaom-av1", "-usage", "realtime", ...fast], "mp4"],
};

let server, chrome, pages, console, page, pusher;

before(async () => {
  const encoded = {};
  for (const [name, [settings, kind]] of Object.entries(encoders)) {
    encoded[name] = join(folder, `${name}.${kind}`);
    execFileSync("ffmpeg", ["-nostdin", "-v", "error", "-i", clip("bframes.mp4"), "-an", ...settings, encoded[name]]);
  }
  server = await Server.start();
  server.push("vp9", encoded.vp9, "--loop");
  server.push("av1", encoded.av1, "--loop");
  const url = `rtsp://camera:${server.secret}@${server.rtsp}/vp8`;
  const copy = ["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", encoded.vp8, "-c", "copy"];
  pusher = spawn("ffmpeg", [...copy, "-f", "rtsp", "-rtsp_transport", "tcp", url], { stdio: "ignore" });
  for (const name of ["vp8", "vp9", "av1"]) {
    await waitFor(name, 30, async () => (await server.fragments(name)).length >= 5);
  }
  chrome = await browser(...rtcFlags);
  pages = await pageServer();
  console = await Console.open(chrome, server);
  page = console.page;
  await console.signIn();
});

after(async () => {
  pusher?.kill();
  await chrome?.close();
  pages?.stop();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

for (const name of ["vp9", "av1"]) {
  test(`${name} plays live in the console`, { timeout: 60_000 }, async () => {
    await console.go(`stream/${name}`);
    await console.waitForGrowth();
    const isVideo = await page.evaluate(() => document.querySelector(".still").hidden);
    assert.ok(isVideo, "by the player, not as pictures");
    assert.deepEqual(console.problems, []);
  });

  test(`a clip of ${name} starts on the picture that was asked for`, { timeout: 60_000 }, async () => {
    const { token } = await server.call("POST", "/v1/tokens", { label: "page", streams: "*", actions: ["play"], playback: true });
    const first = precise((await server.fragments(name))[0].producer_time);
    const [from, to] = [37, 87].map((picture) => Math.round(first + picture * 40 - 5));
    const src = `${server.http}/v1/streams/${name}/clip.mp4?from=${from}&to=${to}&token=${token}`;
    const bare = await chrome.newPage();
    await bare.goto(pages.origin);
    const shown = await bare.evaluate(`(async () => {
      const video = document.querySelector("video");
      video.crossOrigin = "anonymous";
      const first = new Promise((done, fail) => {
        video.requestVideoFrameCallback(done);
        video.onerror = () => fail(new Error(video.error.message));
      });
      video.muted = true;
      video.src = ${JSON.stringify(src)};
      await first;
      const started = (${frameNumber})(video);
      const ended = new Promise((done) => (video.onended = done));
      video.playbackRate = 4;
      await video.play();
      await ended;
      return [started, (${frameNumber})(video), video.duration];
    })()`);
    assert.equal(shown[0], 37);
    assert.ok(shown[1] >= 85 && shown[1] <= 86, `the last picture shown is ${shown[1]}`);
    assert.ok(Math.abs(shown[2] - 2) < 0.06, `${shown[2]} s`);
    await bare.close();
  });
}

test("VP8, which no player takes over HLS, plays live over WebRTC; its past is shown as pictures, and people are told so", { timeout: 90_000 }, async () => {
  await console.go("stream/vp8");
  await page.locator('.over[data-over="webrtc"][data-late]').waitFor();
  await console.waitForGrowth();
  const [first] = await server.fragments("vp8");
  const { x, y } = await console.place(Date.parse(first.producer_time) + 500);
  await page.mouse.click(x, y);
  await page.getByText("No player takes VP8 over HLS").waitFor();
  await page.keyboard.press("Space");
  const seen = new Set();
  await waitFor("pictures of the past", 20, async () => seen.add(await console.counter(across)).size > 3);
  // Back to live it plays whole again.
  await page.keyboard.press("End");
  await page.locator('.over[data-over="webrtc"][data-late]').waitFor();
  await page.getByText("No player takes VP8 over HLS").waitFor({ state: "hidden" });
  await console.waitForGrowth();
  assert.equal(await page.locator(".over").isDisabled(), true, "there is no other way");
  assert.deepEqual(console.problems, []);
});
