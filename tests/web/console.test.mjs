// The console in a real browser: sign in, see streams, watch live, pick a past time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, browser, frameNumber, waitFor } from "./kinora.mjs";

let server, chrome, page;
const problems = [];

before(async () => {
  server = await Server.start();
  server.push("demo", "plain.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await server.fragments("demo")).length >= 3);
  chrome = await browser();
  page = await chrome.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

const counter = () => page.evaluate(`(${frameNumber})(document.querySelector("video"))`);

test("without a token it asks for one, and says when it is wrong", async () => {
  await page.goto(server.http);
  await page.getByLabel("Token").fill("kin_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("does not accept this token").waitFor();
  problems.length = 0; // The browser reports the 401 itself.
});

test("a login link signs in and leaves no token in the address", async () => {
  await page.goto(`${server.http}/#token=${server.admin}`);
  await page.getByRole("link", { name: "demo", exact: true }).waitFor();
  assert.ok(!page.url().includes("kin_"), page.url());
  await page.locator(".state.live").waitFor();
  await page.reload();
  await page.locator(".state.live").waitFor();
});

test("a login link opened where somebody is signed in changes to its token", async () => {
  const other = await server.call("POST", "/v1/tokens", { label: "other", streams: "nothing", actions: ["read_stream"] });
  await page.goto(`${server.http}/#token=${other.token}`);
  await page.getByText("No streams yet").waitFor();
  await page.goto(`${server.http}/#token=${server.admin}`);
  await page.locator(".state.live").waitFor();
  assert.ok(!page.url().includes("kin_"), page.url());
  problems.length = 0; // Only administrators may ask where the server listens.
});

test("the live player's burnt-in counter grows", async () => {
  await page.getByRole("link", { name: "demo", exact: true }).click();
  const first = await waitFor("a picture with a number", 20, async () => (await counter()) ?? undefined);
  // The clip has 200 pictures and starts again: any change onwards is growth.
  const seen = new Set([first]);
  await waitFor("the counter to grow", 15, async () => seen.add(await counter()).size > 20);
  assert.deepEqual(problems, []);
});

test("a click on the timeline plays the past", async () => {
  await waitFor("a drawn span", 10, () => page.locator(".timeline .span").count());
  const span = page.locator(".timeline .span").first();
  const box = await span.boundingBox();
  const bar = await page.locator(".timeline").boundingBox();
  await page.mouse.click(box.x + Math.max(1, box.width / 2), bar.y + bar.height / 2);
  await page.getByText("Recorded, from").waitFor();
  await waitFor("a picture of the past", 20, async () => (await counter()) !== null);
  const video = await page.evaluate(() => document.querySelector("video").currentTime);
  await waitFor("it to play", 15, () => page.evaluate((at) => document.querySelector("video").currentTime > at + 1, video));
  assert.deepEqual(problems, []);
});

test("a stream whose camera left is said to be idle, and its past plays", async () => {
  const stop = server.push("short", "plain.mp4");
  await waitFor("fragments", 20, async () => (await server.fragments("short")).length >= 3);
  await stop();
  await waitFor("all to be stored", 20, async () => (await server.call("GET", "/v1/streams/short")).state === "idle");
  await page.goto(`${server.http}/#/stream/short`);
  await page.getByText("Nobody is publishing this stream now").waitFor();
  await page.getByRole("slider").press("ArrowLeft");
  await page.getByText("Recorded, from").waitFor();
  assert.deepEqual(problems, []);
});

test("an unknown stream is said in a sentence", async () => {
  await page.goto(`${server.http}/#/stream/nobody`);
  await page.getByText("There is no stream of this name.").waitFor();
});
