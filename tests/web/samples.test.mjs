// The sample page in a real browser; only its script address is answered from the package instead of the network.

import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Server, browser, frameNumber, waitFor } from "./kinora.mjs";
import { pageServer } from "./page.mjs";

let server, chrome, pages;

before(async () => {
  server = await Server.start();
  server.push("gate", "plain.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await server.fragments("gate")).length >= 3);
  chrome = await browser();
  const sample = readFileSync(new URL("../../samples/player.html", import.meta.url));
  pages = await pageServer({}, { "player.html": sample });
});

after(async () => {
  await chrome?.close();
  pages?.stop();
  await server?.stop();
});

test("player.html plays live", async () => {
  const script = readFileSync(new URL("../../web/node_modules/hls.js/dist/hls.min.js", import.meta.url));
  const minted = await server.call("POST", "/v1/tokens", { label: "page", streams: "gate", actions: ["play"], playback: true });
  const page = await chrome.newPage();
  await page.route("https://cdn.jsdelivr.net/**", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
  await page.goto(`${pages.origin}/player.html?server=${server.http}&stream=gate#token=${minted.token}`);
  const seen = new Set();
  const counter = () => page.evaluate(`(${frameNumber})(document.querySelector("video"))`);
  await waitFor("the counter to grow", 20, async () => seen.add(await counter()).size > 20);
});
