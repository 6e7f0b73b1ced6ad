// The sample pages in a real browser; only the address of a script is answered from the package instead of the network.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Server, browser, frameNumber, waitFor } from "./kinora.mjs";
import { pageServer } from "./page.mjs";
import { rtcFlags } from "./rtc.mjs";

let server, chrome, pages;

before(async () => {
  server = await Server.start();
  for (const name of ["gate", "yard"]) server.push(name, "plain.mp4", "--loop");
  for (const name of ["gate", "yard"]) await waitFor("fragments", 30, async () => (await server.fragments(name)).length >= 3);
  chrome = await browser(...rtcFlags);
  const names = ["player.html", "whep.html", "whip.html"];
  const sample = (name) => readFileSync(new URL(`../../samples/${name}`, import.meta.url));
  pages = await pageServer({}, Object.fromEntries(names.map((name) => [name, sample(name)])));
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
  await counterGrows(page);
  await page.close();
});

async function counterGrows(page) {
  const seen = new Set();
  const counter = () => page.evaluate(`(${frameNumber})(document.querySelector("video"))`);
  await waitFor("the counter to grow", 20, async () => seen.add(await counter()).size > 20);
}

const viewers = async (name) => (await server.call("GET", `/v1/streams/${name}`)).viewers;

test("whep.html plays live over WebRTC, and leaves when the page is left", async () => {
  const { token } = await server.call("POST", "/v1/tokens", { label: "page", streams: "yard", actions: ["play"], playback: true });
  const page = await chrome.newPage();
  await page.goto(`${pages.origin}/whep.html?server=${server.http}&stream=yard#token=${token}`);
  await counterGrows(page);
  await page.getByText("connected").waitFor();
  await waitFor("a viewer", 10, async () => (await viewers("yard")) === 1);
  await page.goto("about:blank");
  await waitFor("nobody to watch", 10, async () => (await viewers("yard")) === 0);
  await page.close();
});

test("whep.html says when a stream cannot go over WebRTC, and where it can be watched", async () => {
  server.push("pyramid", "bframes.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await server.fragments("pyramid")).length >= 1);
  const page = await chrome.newPage();
  await page.goto(`${pages.origin}/whep.html?server=${server.http}&stream=pyramid#token=${server.admin}`);
  await page.getByText(`${server.http}/hls/pyramid/index.m3u8`).waitFor();
  await page.close();
});

test("whip.html publishes the camera in H.264, and leaves when the page is left", async () => {
  const { token } = await server.call("POST", "/v1/tokens", { label: "camera", streams: "web", actions: ["publish", "create_stream"] });
  const page = await chrome.newPage();
  await page.goto(`${pages.origin}/whip.html?server=${server.http}&stream=web#token=${token}`);
  const find = async () => (await server.call("GET", "/v1/streams")).streams.find(({ name }) => name === "web");
  const stream = await waitFor("it to be live", 20, async () => {
    const found = await find();
    return found?.state === "live" && found.tracks.length === 2 ? found : undefined;
  });
  assert.deepEqual(stream.tracks.map(({ codec }) => codec), ["h264", "opus"]);
  await waitFor("fragments", 30, async () => (await server.fragments("web")).length >= 1);
  await page.goto("about:blank");
  await waitFor("it to be idle", 20, async () => (await find()).state === "idle");
  await page.close();
});
