// The console in a real browser: sign in, create and change a stream, watch live, pick a past time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, waitFor } from "./kinora.mjs";

let server, chrome, console, page;

before(async () => {
  server = await Server.start();
  server.push("demo", "plain.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await server.fragments("demo")).length >= 3);
  chrome = await browser();
  console = await Console.open(chrome, server);
  page = console.page;
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

test("without a token it asks for one, and says when it is wrong", async () => {
  await page.goto(server.http);
  await page.getByLabel("Token").fill("kin_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("does not accept this token").waitFor();
  console.problems.length = 0; // The browser reports the 401 itself.
});

test("a login link signs in and leaves no token in the address", async () => {
  await page.goto(`${server.http}/#token=${server.admin}`);
  await page.getByRole("link", { name: "demo", exact: true }).waitFor();
  assert.ok(!page.url().includes("kin_"), page.url());
  await page.locator(".state.live").waitFor();
  await page.reload();
  await page.locator(".state.live").waitFor();
});

test("a login link opened where somebody is signed in asks before it replaces the token", async () => {
  const other = await server.call("POST", "/v1/tokens", { label: "other", streams: "nothing", actions: ["read_stream"] });
  const kept = () => page.evaluate(() => localStorage.getItem("kinora.token"));
  const asked = page.getByRole("dialog", { name: "Sign in with another token?" });
  await page.goto(`${server.http}/#token=${other.token}`);
  await asked.getByRole("button", { name: "Cancel" }).click();
  await page.locator(".state.live").waitFor();
  assert.equal(await kept(), server.admin);
  await page.goto(`${server.http}/#token=${server.admin}`);
  await page.locator(".state.live").waitFor();
  assert.equal(await asked.count(), 0, "the token that is kept already is no question");
  await page.goto(`${server.http}/#token=${other.token}`);
  await asked.getByRole("button", { name: "Replace my token" }).click();
  await page.getByText("No streams yet").waitFor();
  assert.equal(await kept(), other.token);
  await console.go("server");
  await page.getByText("This token may not see the server").waitFor();
  await page.goto(`${server.http}/#token=${server.admin}`);
  await asked.getByRole("button", { name: "Replace my token" }).click();
  await page.locator(".state.live").waitFor();
  assert.ok(!page.url().includes("kin_"), page.url());
  console.problems.length = 0; // The browser reports the 403s itself.
});

test("a stream is created, a camera is shown how to push it, and its settings are changed", async () => {
  await page.getByRole("button", { name: "New stream" }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Name").fill("a/b");
  await form.getByRole("button", { name: "Create" }).click();
  await form.getByText("A name has 1 to 256 letters").waitFor();
  await form.getByLabel("Name").fill("demo");
  await form.getByRole("button", { name: "Create" }).click();
  await form.getByText("There is a stream of this name already.").waitFor();
  await form.getByLabel("Name").fill("yard");
  await form.getByLabel("Keep for").fill("1.5");
  await form.getByLabel("Keep at most").fill("2");
  await form.getByLabel("Tags").fill("site=north");
  await form.getByRole("button", { name: "Create" }).click();
  const push = page.getByRole("dialog", { name: "Push to yard" });
  await push.getByRole("button", { name: "Make a secret" }).click();
  await push.getByRole("img", { name: "QR code" }).waitFor();
  const url = await push.getByLabel("Address for a camera", { exact: true }).textContent();
  const [, secret] = /^rtsp:\/\/camera:([^@]+)@/.exec(url);
  assert.ok(secret.length >= 20, url);
  assert.equal(url, `rtsp://camera:${secret}@${server.rtsp}/yard`);
  assert.ok((await push.getByLabel("FFmpeg", { exact: true }).textContent()).endsWith(url));
  const stream = await server.call("GET", "/v1/streams/yard");
  assert.deepEqual(stream.retention, { max_age: "36h", max_bytes: 2e9 });
  assert.deepEqual(stream.tags, { site: "north" });
  // What the page shows is what a camera needs.
  server.pushTo(url, "video-only.mp4");
  await page.keyboard.press("Escape");
  await page.getByRole("listitem").filter({ hasText: "yard" }).locator(".state.live").waitFor();

  await page.getByRole("link", { name: "yard", exact: true }).click();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("dialog").getByLabel("Keep for").fill("");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByText("up to 2.0 GB").waitFor();
  assert.deepEqual((await server.call("GET", "/v1/streams/yard")).retention, { max_age: null, max_bytes: 2e9 });
  console.problems.length = 0; // The browser reports the 409 itself.
});

test("search keeps names that start so, and a stream is deleted only when asked twice", async () => {
  await console.go("");
  await page.getByRole("searchbox").fill("ya");
  await waitFor("one card", 10, async () => (await page.locator(".tile-name").allTextContents()).join() === "yard");
  await page.getByRole("searchbox").fill("nobody");
  await page.getByText("No stream's name starts with “nobody”.").waitFor();
  await page.getByRole("searchbox").fill("");
  await page.getByRole("link", { name: "yard", exact: true }).click();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Delete stream" }).click();
  const question = page.getByRole("dialog", { name: "Delete yard?" });
  await question.getByRole("button", { name: "Delete stream" }).click();
  await page.getByRole("link", { name: "demo", exact: true }).waitFor();
  assert.deepEqual((await server.call("GET", "/v1/streams")).streams.map((stream) => stream.name), ["demo"]);
  console.problems.length = 0; // The page of the deleted stream may have asked once more.
});

test("the live player's burnt-in counter grows, and its viewer is counted", async () => {
  await page.getByRole("link", { name: "demo", exact: true }).click();
  await console.waitForGrowth();
  await page.getByText("1 viewer").first().waitFor();
  assert.deepEqual(console.problems, []);
});

test("a click on the timeline plays the past, and the keys move through it", async () => {
  const bar = page.getByRole("slider");
  await waitFor("a drawn span", 10, async () => Number(await bar.getAttribute("data-spans")) > 0);
  const [first] = await server.fragments("demo");
  const start = Date.parse(first.producer_time);
  const { x, y } = await console.place(start + 1500);
  await page.mouse.click(x, y);
  await page.getByText("Recording", { exact: true }).waitFor();
  const position = () => bar.evaluate((element) => Number(element.getAttribute("aria-valuenow")));
  await waitFor("it to play from there", 20, async () => {
    const at = await position();
    return at > start + 1600 && at < start + 6000;
  });
  await console.waitForGrowth();
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Play (space)" }).waitFor();
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Pause (space)" }).waitFor();
  await page.keyboard.press("End");
  await page.locator(".go-live.on").waitFor();
  assert.deepEqual(console.problems, []);
});

test("the timeline zooms from a second to a month, by wheel, keys and buttons", async () => {
  const bar = page.getByRole("slider");
  const length = () => bar.evaluate((element) => Number(element.dataset.to) - Number(element.dataset.from));
  await page.getByRole("button", { name: "1 month" }).click();
  await waitFor("a month", 5, async () => (await length()) === 31 * 86_400_000);
  await bar.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await waitFor("half a month", 5, async () => (await length()) === 15.5 * 86_400_000);
  const box = await bar.boundingBox();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 60);
  await waitFor("a second", 20, async () => {
    await page.mouse.wheel(0, -1000);
    return (await length()) === 1000;
  });
  await page.getByRole("button", { name: "10 min" }).click();
  await waitFor("ten minutes", 5, async () => (await length()) === 600_000);
  assert.deepEqual(console.problems, []);
});

test("times are named by their zone, and UTC is one press away", async () => {
  const context = await Console.open(chrome, server, { timezoneId: "Asia/Kolkata" });
  await context.signIn();
  const zone = context.page.getByRole("button", { name: /Times in Asia\/(Kolkata|Calcutta), GMT\+5:30/ });
  await context.page.locator(".state.live").waitFor();
  const shown = async () => /\d\d:\d\d/.exec(await context.page.getByText("live since").textContent())[0];
  const minutes = (text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
  const local = minutes(await shown());
  await zone.click();
  await context.page.getByRole("button", { name: "Times in UTC" }).waitFor();
  await context.page.locator(".state.live").waitFor();
  assert.equal((local - minutes(await shown()) + 1440) % 1440, 330);
  await context.context.close();
});

test("a stream whose camera left is said to be idle with the reason of its gap, and its past plays", async () => {
  for (const _ of [1, 2]) {
    const stop = server.push("short", "plain.mp4");
    await waitFor("it to be live", 20, async () => (await server.call("GET", "/v1/streams").then(({ streams }) => streams.find((one) => one.name === "short")))?.state === "live");
    const before = (await server.fragments("short")).length;
    await waitFor("fragments", 20, async () => (await server.fragments("short")).length >= before + 3);
    await stop();
    await waitFor("all to be stored", 20, async () => (await server.call("GET", "/v1/streams/short")).state === "idle");
    const { last_time: last } = await server.call("GET", "/v1/streams/short");
    await waitFor("a gap that is to be seen", 5, () => Date.now() - Date.parse(last) > 1500);
  }
  await console.go("stream/short");
  await page.getByText("Nobody is publishing this stream now").waitFor();
  const { gaps } = await server.call("GET", "/v1/streams/short/timeline?resolution=1ms");
  const gap = gaps[0];
  const bar = page.getByRole("slider");
  await waitFor("the timeline", 10, async () => Number(await bar.getAttribute("data-spans")) > 0);
  const middle = (Date.parse(gap.from) + Date.parse(gap.to)) / 2;
  for (let zoom = 0; zoom < 6; zoom += 1) {
    const { x, y } = await console.place(middle);
    await page.mouse.move(x, y);
    await page.mouse.wheel(0, -400);
    await bar.evaluate(() => new Promise(requestAnimationFrame));
  }
  await page.getByText("Nothing recorded: the camera was away").waitFor();
  await page.keyboard.press("Home");
  await page.keyboard.press("Space");
  await page.getByText("Recording", { exact: true }).waitFor();
  await console.waitForGrowth();
  assert.deepEqual(console.problems, []);
});

test("an unknown stream is said in a sentence", async () => {
  await console.go("stream/nobody");
  await page.getByText("There is no stream of this name.").waitFor();
});
