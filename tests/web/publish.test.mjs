// Publishing from the console: a camera and a screen go out over WHIP, are watched in another page, and stop; and what is said
// when it does not go.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, waitFor } from "./kinora.mjs";
import { rtcFlags } from "./rtc.mjs";

let server, chrome, console, page;

before(async () => {
  server = await Server.start();
  await server.call("POST", "/v1/streams", { name: "taken" });
  chrome = await browser(...rtcFlags, "--auto-select-desktop-capture-source=Entire screen");
  console = await Console.open(chrome, server);
  page = console.page;
  await console.signIn();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

const stream = () => page.getByLabel("Stream", { exact: true });
const go = () => page.getByRole("button", { name: "Publish", exact: true });
const fact = (term) => page.locator(".on-air div").filter({ hasText: term }).locator("dd");
const state = async (name) => (await server.call("GET", "/v1/streams")).streams.find((one) => one.name === name)?.state;

/** How many pictures the page has shown. */
const shownIn = (of) => of.evaluate(() => document.querySelector("video")?.getVideoPlaybackQuality().totalVideoFrames ?? 0);

test("the camera is shown before anything is sent", { timeout: 60_000 }, async () => {
  await page.getByRole("link", { name: "Publish from here" }).click();
  await page.getByRole("button", { name: "Show the camera" }).click();
  await waitFor("the preview", 10, async () => (await shownIn(page)) > 5);
  assert.equal(await page.locator("video").evaluate((video) => video.muted), true);
  // Names of devices come with the permission.
  await waitFor("cameras", 10, async () => (await page.getByLabel("Camera", { exact: true }).last().locator("option").count()) > 1);
  assert.equal((await server.call("GET", "/v1/streams")).streams.length, 1);
  await page.getByRole("button", { name: "Switch off" }).click();
  assert.equal(await page.locator("video").evaluate((video) => video.srcObject), null);
});

test("a name that is none is refused before the camera is asked for", async () => {
  await stream().fill("a/b");
  await go().click();
  await page.getByRole("alert").getByText("A name has 1 to 256 letters").waitFor();
});

test("the camera goes out, is watched live in another page, and stops", { timeout: 120_000 }, async () => {
  await stream().fill("desk");
  await go().click();
  await page.locator(".screen .state.live").waitFor();
  await waitFor("it to be live", 20, async () => (await state("desk")) === "live");
  await fact("Picture").getByText(/^H\.264 \d+×\d+, \d+ fps$/).waitFor();
  await fact("Sound").getByText("Opus").waitFor();
  await fact("Bitrate").getByText(/bit\/s/).waitFor();
  await fact("Lost on the way").waitFor();
  assert.match(await page.getByRole("link", { name: "Watch it" }).getAttribute("href"), /#\/stream\/desk$/);

  const viewer = await Console.open(chrome, server);
  await viewer.signIn();
  await viewer.go("stream/desk");
  await viewer.page.locator('.over[data-over="webrtc"]').waitFor();
  const before = await waitFor("pictures", 20, () => shownIn(viewer.page));
  await waitFor("more of them", 20, async () => (await shownIn(viewer.page)) > before + 40);
  // With sound, which comes over WebRTC too.
  await viewer.page.keyboard.press("m");
  const heard = await shownIn(viewer.page);
  await waitFor("pictures go on", 20, async () => (await shownIn(viewer.page)) > heard + 20);
  assert.equal(await viewer.page.locator(".over").getAttribute("data-over"), "webrtc");
  assert.equal(await viewer.page.evaluate(() => document.querySelector("video").srcObject.getAudioTracks().length), 1);

  await page.getByRole("button", { name: "Stop publishing" }).click();
  await waitFor("it to be idle", 20, async () => (await state("desk")) === "idle");
  await go().waitFor();
  await viewer.page.getByText("The camera is away").waitFor();
  // Whoever comes back is seen again.
  await go().click();
  await waitFor("it to be live", 20, async () => (await state("desk")) === "live");
  const again = await shownIn(viewer.page);
  await waitFor("pictures again", 30, async () => (await shownIn(viewer.page)) > again + 20);
  assert.deepEqual(viewer.problems.filter((one) => !one.includes("status of 404")), []);
  await viewer.context.close();
  await page.getByRole("button", { name: "Stop publishing" }).click();
  await waitFor("it to be idle", 20, async () => (await state("desk")) === "idle");
  assert.ok((await server.fragments("desk")).length > 0, "it was recorded");
});

test("a screen goes out in the chosen format without sound", { timeout: 60_000 }, async () => {
  await stream().fill("screen");
  await page.getByLabel("Screen, window or tab").check();
  await page.getByLabel("Sound", { exact: true }).selectOption("None");
  await page.getByText("Codec and token").click();
  await page.getByLabel("Picture format").selectOption("VP9");
  await go().click();
  await page.locator(".screen .state.live").waitFor();
  const tracks = await waitFor("what it is", 20, async () => {
    const { tracks: found } = await server.call("GET", "/v1/streams/screen");
    return found.length > 0 ? found : undefined;
  });
  assert.deepEqual(tracks.map(({ codec }) => codec), ["vp9"]);
  await fact("Sound").getByText("None").waitFor();
});

test("when the sharing ends, publishing ends, and the page says so", { timeout: 60_000 }, async () => {
  await page.locator("video").evaluate((video) => {
    const [track] = video.srcObject.getVideoTracks();
    track.stop();
    track.dispatchEvent(new Event("ended")); // As the browser does when the person ends it.
  });
  await page.getByRole("alert").getByText("The sharing was ended").waitFor();
  await waitFor("it to be idle", 20, async () => (await state("screen")) === "idle");
  await page.getByLabel("Camera", { exact: true }).first().check();
  await page.getByLabel("Picture format").selectOption("What plays in most places");
});

test("leaving the page ends publishing", { timeout: 60_000 }, async () => {
  await stream().fill("left");
  await go().click();
  await waitFor("it to be live", 20, async () => (await state("left")) === "live");
  await console.go("");
  await waitFor("it to be idle", 20, async () => (await state("left")) === "idle");
  assert.deepEqual(console.problems, []);
});

/** Tries to publish with the browser or the server as `prepare` makes them, and gives what the page says. */
async function said(prepare, token) {
  const other = await Console.open(chrome, server);
  await prepare(other.page);
  await other.signIn();
  await other.go("publish/taken");
  if (token !== undefined) {
    await other.page.getByText("Codec and token").click();
    await other.page.getByLabel("Another token").fill(token);
  }
  await other.page.getByRole("button", { name: "Publish", exact: true }).click();
  const text = await waitFor("a sentence", 30, async () => (await other.page.locator('[role="alert"]').textContent()) || undefined);
  await other.page.getByRole("button", { name: "Publish", exact: true }).waitFor();
  await other.context.close();
  return text;
}

test("what does not go is said in a sentence", { timeout: 120_000 }, async () => {
  const nothing = async () => undefined;
  const throwing = (name) => (at) =>
    at.addInitScript((what) => (navigator.mediaDevices.getUserMedia = async () => Promise.reject(new DOMException("no", what))), name);
  assert.match(await said(throwing("NotAllowedError")), /did not let this page use the camera/);
  assert.match(await said(throwing("NotFoundError")), /There is no camera or no microphone/);
  assert.match(await said(throwing("NotReadableError")), /Another program may be using it/);
  assert.match(await said(nothing, "kin_wrong"), /does not accept this token/);
  const { token } = await server.call("POST", "/v1/tokens", { label: "elsewhere", streams: "elsewhere", actions: ["publish"] });
  assert.match(await said(nothing, token), /This token may not publish taken/);
  const answering = (status, code) => (at) =>
    at.route("**/whip/**", (route) => route.fulfill({ status, json: { error: { code, message: "as it is" } } }));
  assert.match(await said(answering(429, "too_many_requests")), /Try again in a minute/);
  assert.match(await said(answering(507, "disk_full")), /disk is full/);
  // Where nobody listens: what a firewall does.
  const shut = (at) =>
    at.route("**/whip/**", async (route) => {
      const answer = await route.fetch();
      if (route.request().method() !== "POST") return route.fulfill({ response: answer });
      const body = (await answer.text()).replace(/^(a=candidate:\S+ \d+ udp \d+ \S+) \d+ /gm, "$1 9 ");
      return route.fulfill({ response: answer, body });
    });
  assert.match(await said(shut), /Let UDP to 127\.0\.0\.1:9 through the firewalls.*webrtc\.public_addresses/);
  // Somebody has it already.
  const first = await Console.open(chrome, server);
  await first.signIn();
  await first.go("publish/taken");
  await first.page.getByRole("button", { name: "Publish", exact: true }).click();
  await waitFor("it to be live", 20, async () => (await state("taken")) === "live");
  const second = await server.call("POST", "/v1/tokens", { label: "second", streams: "taken", actions: ["publish"] });
  assert.match(await said(nothing, second.token), /Somebody else publishes taken now/);
  await first.context.close();
});

test("over plain HTTP from elsewhere the page says why there is no camera, and where there is", { timeout: 60_000 }, async () => {
  const { port } = new URL(server.http);
  const far = await browser(...rtcFlags, "--host-resolver-rules=MAP kinora.test 127.0.0.1");
  const there = await Console.open(far, server);
  await there.page.goto(`http://kinora.test:${port}/#token=${server.admin}`);
  await there.page.getByRole("heading", { name: "Streams", exact: true }).waitFor();
  await there.page.goto(`http://kinora.test:${port}/#/publish/gate`);
  const { listeners } = await server.call("GET", "/v1/server");
  const address = `https://kinora.test:${listeners.https.split(":").pop()}/#/publish/gate`;
  await there.page.getByRole("link", { name: address }).waitFor();
  await there.check("no camera over plain HTTP");
  await far.close();
});
