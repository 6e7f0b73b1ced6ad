// A block file in a bare <video src>: flash and beep come as close together as in the clip that was pushed.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Server, browser, clip, sleep } from "./kinora.mjs";
import { beepsAfterFlashes, median, pageServer } from "./page.mjs";

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
