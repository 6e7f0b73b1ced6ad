// Taking a range away: a clip that starts on the asked picture, pictures in a zip file, addresses with a token of their own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, frameNumber, precise, waitFor } from "./kinora.mjs";

const rate = 25;

let server, chrome, console, page, start, folder;

before(async () => {
  // Little is kept in memory, so that what is damaged on the disk is met.
  server = await Server.start('[live]\ntail_bytes = "0B"\n[pictures]\nremembered_bytes = "0B"\n');
  const stop = server.push("past", "bframes.mp4");
  await waitFor("the clip to be sent", 30, async () => (await server.fragments("past")).length >= 8);
  await stop();
  chrome = await browser();
  console = await Console.open(chrome, server);
  page = console.page;
  folder = mkdtempSync(join(tmpdir(), "kinora-export-"));
  await console.signIn();
  start = precise((await server.fragments("past"))[0].producer_time);
  await console.go("stream/past");
  await waitFor("the timeline", 10, async () => Number(await page.getByRole("slider").getAttribute("data-spans")) > 0);
});

after(async () => {
  await chrome?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The number burnt into a picture, read as the browser shows it. */
const numberOf = (bytes) =>
  page.evaluate(`(async () => {
    const image = new Image();
    image.src = "data:image/jpeg;base64,${bytes.toString("base64")}";
    await image.decode();
    return (${frameNumber})(image, 640);
  })()`);

const save = async (button, name) => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: button }).click()]);
  const path = join(folder, name);
  await download.saveAs(path);
  return path;
};

let range;

test("a range is marked on the timeline, and its ends are said", async () => {
  await page.getByRole("button", { name: "Mark on the timeline" }).click();
  const [from, to] = [await console.place(start + 2_000), await console.place(start + 5_000)];
  await page.mouse.move(from.x, from.y);
  await page.mouse.down();
  await page.mouse.move(to.x, to.y, { steps: 5 });
  await page.mouse.up();
  await page.getByText("3 s marked").waitFor();
  const request = page.waitForRequest((sent) => sent.url().includes("/clip.mp4?"));
  range = { path: await save("Download clip", "clip.mp4") };
  const asked = new URL((await request).url()).searchParams;
  [range.from, range.to] = [Date.parse(asked.get("from")), Date.parse(asked.get("to"))];
  assert.ok(Math.abs(range.from - start - 2_000) < 300 && Math.abs(range.to - start - 5_000) < 300, JSON.stringify(range));
});

test("the clip starts on the asked picture and is as long as the range", async () => {
  const probe = JSON.parse(
    execFileSync("ffprobe", ["-v", "error", "-show_entries", "format=duration", "-of", "json", range.path], { encoding: "utf8" }),
  );
  assert.ok(Math.abs(Number(probe.format.duration) - (range.to - range.from) / 1000) < 0.15, JSON.stringify(probe));
  execFileSync("ffmpeg", ["-v", "error", "-xerror", "-i", range.path, "-frames:v", "1", "-q:v", "2", join(folder, "first.jpg")]);
  const first = await numberOf(readFileSync(join(folder, "first.jpg")));
  const expected = ((range.from - start) / 1000) * rate;
  assert.ok(Math.abs(first - expected) <= 1, `the clip starts with picture ${first}, asked was ${expected}`);
});

test("pictures come in one zip file, each named by its time", async () => {
  await page.getByLabel("A picture every").selectOption("second");
  const path = await save("Download pictures", "pictures.zip");
  execFileSync("python3", ["-m", "zipfile", "-e", path, join(folder, "pictures")]);
  const names = readdirSync(join(folder, "pictures")).sort();
  assert.equal(names.length, 3, names.join());
  const numbers = [];
  for (const name of names) numbers.push(await numberOf(readFileSync(join(folder, "pictures", name))));
  const first = Math.floor(((range.from - start) / 1000) * rate + 0.001);
  assert.deepEqual(numbers, [first, first + rate, first + 2 * rate]);
  await page.getByText("3 pictures saved.").waitFor();
});

test("addresses of the range carry a token that reaches nothing else", async () => {
  await page.getByLabel("It may see").selectOption("The marked range alone");
  await page.getByRole("button", { name: "Make addresses" }).click();
  const address = async (label) => (await page.getByLabel(label, { exact: true }).textContent()).trim();
  await page.getByText("Valid until").waitFor();
  const status = (url) => fetch(url).then((answer) => answer.status);
  const [hls, clip, frame] = [await address("HLS, the marked range"), await address("Clip (MP4)"), await address("Picture (JPEG)")];
  assert.deepEqual([await status(hls), await status(clip), await status(frame)], [200, 200, 200]);
  const token = new URL(hls).searchParams.get("token");
  const outside = `${server.http}/v1/streams/past/frames?at=${Math.round(start) + 500}&token=${token}`;
  assert.ok([403, 404].includes(await status(outside)), "before the range");
  assert.equal(await status(`${server.http}/hls/other/index.m3u8?token=${token}`), 403);
  const { tokens } = await server.call("GET", "/v1/tokens");
  const minted = tokens.find((one) => one.label === "console link: past");
  assert.deepEqual([minted.streams, minted.actions, minted.playback], ["past", ["play"], true]);
  assert.ok(minted.from !== undefined && minted.to !== undefined && minted.expires !== null);
});

/** Damages a picture of a fragment on the disk. */
function damage(fragment) {
  const streams = join(server.data, "streams");
  const files = readdirSync(streams).flatMap((stream) => readdirSync(join(streams, stream)).map((name) => join(streams, stream, name)));
  const block = files.find((file) => file.endsWith(".mp4"));
  const bytes = readFileSync(block);
  let at = -1;
  for (let count = 0; count <= fragment; count += 1) at = bytes.indexOf("kinora.recordbox", at + 1);
  const record = at - 8;
  bytes[record + bytes.readUInt32BE(record) + (bytes.readUInt32BE(record + 132) >> 1)] ^= 1;
  // In place: the server has the file open.
  writeFileSync(block, bytes, { flag: "r+" });
}

test("pictures that cannot be had are counted, and named in the zip file", async () => {
  damage(1);
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByRole("button", { name: "Mark on the timeline" }).click();
  const [from, to] = [await console.place(start + 350), await console.place(start + 2_950)];
  await page.mouse.move(from.x, from.y);
  await page.mouse.down();
  await page.mouse.move(to.x, to.y, { steps: 5 });
  await page.mouse.up();
  await page.getByText("3 s marked").waitFor();
  const path = await save("Download pictures", "holed.zip");
  await page.getByText("2 pictures saved. One is missing: what is stored of it is damaged.").waitFor();
  execFileSync("python3", ["-m", "zipfile", "-e", path, join(folder, "holed")]);
  const names = readdirSync(join(folder, "holed")).sort();
  assert.deepEqual([names.length, names[0]], [3, "missing.txt"], names.join());
  const [, line, ...rest] = readFileSync(join(folder, "holed", "missing.txt"), "utf8").split("\n");
  const [, time, why] = /^(\S+Z)  (.+)$/.exec(line);
  assert.ok(Math.abs(precise(time) - start - 1_350) < 350, line);
  assert.equal(why, "what is stored of it is damaged");
  assert.deepEqual(rest, [""], "nothing else is missing");
});

test("a range is set by keys and by typing, and too many pictures are refused in a sentence", async () => {
  await page.getByRole("button", { name: "Clear" }).click();
  assert.ok(await page.getByRole("button", { name: "Download clip" }).isDisabled());
  const { x, y } = await console.place(start + 3_000);
  await page.mouse.click(x, y);
  await page.keyboard.press("i");
  await page.getByText("10 s marked").waitFor();
  await page.getByLabel("From", { exact: true }).fill("2020-01-01T00:00");
  await page.getByRole("button", { name: "Download pictures" }).click();
  await page.getByText("That are more than 2000 pictures.").waitFor();
  await page.getByLabel("From", { exact: true }).fill("2200-01-01T00:00");
  await page.getByText("The range ends before it starts.").waitFor();
  assert.deepEqual(console.problems, []);
});
