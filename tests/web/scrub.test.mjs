// Looking through a recording: the picture under the pointer is the one of that time, by its burnt-in counter.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, precise, waitFor } from "./kinora.mjs";

/** Pictures a second of the clips, how many they have, and how wide they are. */
const [rate, count, across] = [25, 200, 640];

let server, chrome, console, page, start;

before(async () => {
  server = await Server.start();
  const stop = server.push("past", "bframes.mp4");
  await waitFor("the clip to be sent", 30, async () => (await server.fragments("past")).length >= 8);
  await stop();
  server.push("modern", "hevc.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await server.fragments("modern")).length >= 3);
  chrome = await browser();
  console = await Console.open(chrome, server);
  page = console.page;
  await console.signIn();
  start = precise((await server.fragments("past"))[0].producer_time);
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

const still = () => page.locator(".still");
const shown = async () => (await still().isVisible()) && console.counter(across);
/** When the drawn picture was taken, in ms. */
const taken = async () => Number(await still().getAttribute("data-time"));
/** The picture on screen at a time; a clock of 90 kHz rounds by some microseconds. */
const pictureAt = (time, first = start) => Math.floor(((time - first) / 1000) * rate + 0.001);

async function open(name) {
  await console.go(`stream/${name}`);
  await waitFor("the timeline", 10, async () => Number(await page.getByRole("slider").getAttribute("data-spans")) > 0);
}

test("while the pointer drags, the picture follows by key frames, and is exact where it rests", async () => {
  await open("past");
  const at = (seconds) => console.place(start + seconds * 1000);
  const { x, y } = await at(1);
  await page.mouse.move(x, y);
  await page.mouse.down();
  const asked = [];
  page.on("request", (request) => request.url().includes("/frames?") && asked.push(request.url()));
  for (const seconds of [1.5, 2.2, 3.7, 5.1]) {
    const place = await at(seconds);
    await page.mouse.move(place.x, place.y, { steps: 6 });
    const from = start + seconds * 1000;
    await waitFor(`a picture beside ${seconds} s`, 10, async () => Math.abs((await taken()) - from) <= 600);
    const [picture, time] = await console.counterAndTime(across);
    // The page keeps whole milliseconds, cut off.
    assert.equal(picture, pictureAt(time + 1), "the drawn picture is of the time it says");
    assert.equal(picture % rate, 0, "a key frame");
  }
  assert.ok(asked.length > 0 && asked.every((url) => url.includes("pick=key")), asked.join("\n"));
  await page.mouse.up();
  const rest = await page.getByRole("slider").evaluate((bar) => Number(bar.getAttribute("aria-valuenow")));
  await waitFor("the exact picture", 10, async () => (await shown()) === pictureAt(rest));
  assert.deepEqual(console.problems, []);
});

test("arrow keys with Shift go from picture to picture", async () => {
  for (const [key, step] of [["Shift+ArrowRight", 1], ["Shift+ArrowRight", 1], ["Shift+ArrowLeft", -1]]) {
    const before = await shown();
    await page.keyboard.press(key);
    await waitFor("the picture beside", 10, async () => (await shown()) === before + step);
  }
});

test("J runs backwards, faster when pressed again, K stops on a picture and L runs on", async () => {
  await page.keyboard.press("j");
  const first = await taken();
  await waitFor("earlier pictures", 10, async () => (await taken()) < first - 900);
  await page.keyboard.press("j");
  await page.getByText("backwards ×2").waitFor();
  await page.keyboard.press("k");
  await page.getByText("Picture", { exact: true }).waitFor();
  await page.keyboard.press("l");
  const low = await taken();
  await waitFor("later pictures", 10, async () => (await taken()) > low + 900);
  await page.keyboard.press("k");
  // From a picture, playing goes on where it stood.
  const stood = await page.getByRole("slider").evaluate((bar) => Number(bar.getAttribute("aria-valuenow")));
  await page.keyboard.press("Space");
  await page.getByText("Recording", { exact: true }).waitFor();
  await waitFor("the video", 10, async () => !(await still().isVisible()));
  const playing = await waitFor("a picture of the video", 10, () => console.counter());
  assert.ok(Math.abs(playing - pictureAt(stood)) < 2 * rate || playing === count - 1, `picture ${playing}, stood at ${pictureAt(stood)}`);
  assert.deepEqual(console.problems, []);
});

test("the pointer over the timeline sees the picture of that time", async () => {
  const { x, y } = await console.place(start + 4_100);
  await page.mouse.move(x, y);
  const card = page.locator(".hover-card canvas");
  await card.waitFor();
  const number = () => console.numberIn(".hover-card canvas", across);
  await waitFor("the key frame beside 4.1 s", 10, async () => Math.abs((await number()) - 4.1 * rate) <= rate);
});

test("a browser that cannot play H.265 is told so, and sees pictures and the past", async () => {
  await open("modern");
  await page.getByText("This browser cannot play H.265").waitFor();
  const seen = new Set();
  await waitFor("live pictures", 20, async () => seen.add(await shown()).size > 3);
  const first = precise((await server.fragments("modern"))[0].producer_time);
  const { x, y } = await console.place(first + 1_200);
  await page.mouse.click(x, y);
  const rest = await page.getByRole("slider").evaluate((bar) => Number(bar.getAttribute("aria-valuenow")));
  const expected = pictureAt(rest, first);
  await waitFor("the picture of then", 10, async () => (await shown()) === expected);
  await page.keyboard.press("Space");
  await waitFor("pictures to run", 10, async () => (await shown()) > expected + 10);
  assert.deepEqual(console.problems, []);
});

test("the grid shows the newest pictures", async () => {
  await console.go("");
  const image = page.getByRole("img", { name: "Newest picture of past" });
  await image.waitFor();
  const number = await waitFor("its picture", 10, () => console.numberIn('img[alt="Newest picture of past"]', across));
  assert.ok(number >= count - 2 * rate, `picture ${number} of ${count}`);
  assert.deepEqual(console.problems, []);
});
