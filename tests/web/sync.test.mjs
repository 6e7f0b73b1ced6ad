// A block file in a bare <video src>: flash and beep come as close together as in the clip that was pushed.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Server, browser, clip, sleep } from "./kinora.mjs";
import { pageServer } from "./page.mjs";

let server, chrome, pages, page;

before(async () => {
  server = await Server.start();
  const stop = server.push("flash", "flash-beep.mp4");
  await sleep(11_500);
  await stop();
  await sleep(500);
  const [folder] = readdirSync(join(server.data, "streams"));
  const blocks = readdirSync(join(server.data, "streams", folder)).filter((name) => name.endsWith(".mp4"));
  assert.equal(blocks.length, 1);
  pages = await pageServer({
    sent: clip("flash-beep.mp4"),
    stored: join(server.data, "streams", folder, blocks[0]),
  });
  chrome = await browser();
  page = await chrome.newPage();
});

after(async () => {
  await chrome?.close();
  pages?.stop();
  await server?.stop();
});

/** In the page: plays `name` and gives, for each flash, how many ms later its beep was heard. */
async function beepsAfterFlashes(name) {
  const video = document.querySelector("video");
  video.src = name;
  video.muted = false;
  const context = new AudioContext();
  await context.resume();
  const listen = context.createScriptProcessor(256, 1, 1);
  const beeps = [];
  let loud = false;
  listen.onaudioprocess = (event) => {
    const peak = event.inputBuffer.getChannelData(0).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (peak > 0.3 && !loud) beeps.push(performance.now());
    loud = peak > 0.1;
  };
  context.createMediaElementSource(video).connect(listen);
  listen.connect(context.destination);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const flashes = [];
  const look = (now, frame) => {
    const painter = canvas.getContext("2d", { willReadFrequently: true });
    painter.drawImage(video, 0, 0, 1, 1);
    if (painter.getImageData(0, 0, 1, 1).data[1] > 200) flashes.push(frame.expectedDisplayTime);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  await video.play();
  await new Promise((done) => (video.onended = done));
  await context.close();
  return flashes.flatMap((flash) => {
    const nearest = beeps.map((beep) => beep - flash).sort((a, b) => Math.abs(a) - Math.abs(b))[0];
    return nearest !== undefined && Math.abs(nearest) < 400 ? [nearest] : [];
  });
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

test("sound and picture of a block file are in step to one picture", async () => {
  const measure = async (name) => {
    await page.goto(pages.origin);
    const offsets = await page.evaluate(beepsAfterFlashes, name);
    assert.ok(offsets.length >= 6, `${name}: only ${offsets.length} flashes with a beep`);
    return median(offsets);
  };
  const sent = await measure("sent");
  const stored = await measure("stored");
  assert.ok(Math.abs(stored - sent) < 40, `sent ${sent.toFixed(1)} ms, stored ${stored.toFixed(1)} ms apart`);
});
