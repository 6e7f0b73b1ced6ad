// Live in the console: over WebRTC where that goes, over HLS with the reason where it does not, and how late it says it is.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, precise, waitFor } from "./kinora.mjs";
import { rtcFlags } from "./rtc.mjs";

/** Pictures a second of the clips, and how many are in a fragment. */
const [rate, gop] = [25, 25];

let server, chrome, console, page;

before(async () => {
  server = await Server.start();
  server.push("plain", "plain.mp4", "--loop");
  server.push("pyramid", "bframes.mp4", "--loop");
  for (const name of ["plain", "pyramid"]) await waitFor(`fragments of ${name}`, 30, async () => (await server.fragments(name)).length >= 3);
  chrome = await browser(...rtcFlags);
  console = await Console.open(chrome, server);
  page = console.page;
  await console.signIn();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

const over = () => page.locator(".over");
const says = (name) => waitFor(name, 20, async () => (await over().isVisible()) && (await over().getAttribute("data-over")) === name);
/** How late the page says that it is, in ms. */
const lateness = async () => Number(await waitFor("how late it is", 20, () => over().getAttribute("data-late")));
const viewers = async (name) => (await server.call("GET", `/v1/streams/${name}`)).viewers;

/** The picture on the screen, when that was so, and how late the page says it was, in ms. */
async function shown() {
  const number = await console.counter();
  return page.evaluate((seen) => ({ number: seen, now: Date.now(), late: Number(document.querySelector(".over").dataset.late) }), number);
}

/** When pictures of this number were taken, as the archive has it. */
async function taken(name, number) {
  const place = Math.floor(number / gop);
  // The clip runs over and over, 8 fragments each time.
  return (await server.fragments(name))
    .filter((_, index) => index % 8 === place)
    .map(({ producer_time }) => precise(producer_time) + ((number % gop) / rate) * 1000);
}

test("a stream without B pictures plays over WebRTC, which the page says, and how late", { timeout: 90_000 }, async () => {
  await console.go("stream/plain");
  await console.waitForGrowth();
  await says("webrtc");
  const late = await lateness();
  assert.ok(late < 2000, `${late} ms late`);
  await over().locator(".number").getByText("s late").waitFor();
  assert.equal(await page.evaluate(() => document.querySelector("video").srcObject instanceof MediaStream), true);
  await waitFor("to be counted", 10, async () => (await viewers("plain")) === 1);
});

test("how late it says it is, is how late it is", { timeout: 60_000 }, async () => {
  await waitFor("a figure that is right to a picture or two", 30, async () => {
    const { number, now, late } = await shown();
    if (number === null) return false;
    const from = now - 3000;
    // The fragment of the picture is listed when it is closed.
    const at = await waitFor("its fragment", 5, async () => (await taken("plain", number)).find((time) => time > from && time <= now));
    return Math.abs(now - at - late) < 80;
  });
});

test("leaving the page ends the session", { timeout: 60_000 }, async () => {
  const ended = page.waitForRequest((request) => request.method() === "DELETE" && request.url().includes("/whep/plain/"));
  await console.go("");
  await ended;
  await waitFor("the viewer to be gone", 10, async () => (await viewers("plain")) === 0);
  await console.go("stream/plain");
  await console.waitForGrowth();
  await says("webrtc");
  assert.deepEqual(console.problems, []);
});

test("pause keeps the picture and ends the session; play goes on in the recording, and live is WebRTC again", { timeout: 90_000 }, async () => {
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Play (space)" }).waitFor();
  assert.ok((await console.counter()) !== null, "the picture stays");
  await waitFor("the viewer to be gone", 10, async () => (await viewers("plain")) === 0);
  await page.keyboard.press("Space");
  await page.getByText("Recording", { exact: true }).waitFor();
  await console.waitForGrowth();
  assert.equal(await over().isVisible(), false);
  console.problems.length = 0; // What was paused was not stored yet when it was asked for, which the browser reports as a 404.
  await page.keyboard.press("End");
  await says("webrtc");
  await console.waitForGrowth();
});

test("a click on the timeline plays the past over HLS", { timeout: 60_000 }, async () => {
  const [first] = await server.fragments("plain");
  const { x, y } = await console.place(precise(first.producer_time) + 1500);
  await page.mouse.click(x, y);
  await page.getByText("Recording", { exact: true }).waitFor();
  await console.waitForGrowth();
  await page.keyboard.press("End");
  await says("webrtc");
});

test("the viewer changes to HLS and back, and the choice stays", { timeout: 90_000 }, async () => {
  await over().click();
  await says("hls");
  await console.waitForGrowth();
  const late = await lateness();
  assert.ok(late >= 0 && late < 30_000, `${late} ms late`);
  assert.match(await over().getAttribute("title"), /as you chose/);
  await page.reload();
  await says("hls");
  await console.waitForGrowth();
  await over().click();
  await says("webrtc");
  await console.waitForGrowth();
});

test("sound is heard over WebRTC once it is turned on", { timeout: 60_000 }, async () => {
  await page.keyboard.press("m");
  await page.getByRole("button", { name: "Mute (M)" }).waitFor();
  await console.waitForGrowth();
  await says("webrtc");
  await waitFor("sound", 10, () =>
    page.evaluate(async () => {
      const context = new AudioContext();
      const listen = context.createAnalyser();
      context.createMediaStreamSource(document.querySelector("video").srcObject).connect(listen);
      const samples = new Float32Array(listen.fftSize);
      await new Promise((done) => setTimeout(done, 200));
      listen.getFloatTimeDomainData(samples);
      await context.close();
      return samples.some((sample) => Math.abs(sample) > 0.02);
    }),
  );
  await page.keyboard.press("m");
  assert.deepEqual(console.problems, []);
});

test("sound that the server cannot send over WebRTC is heard over HLS", { timeout: 60_000 }, async () => {
  const silent = await Console.open(chrome, server);
  // As the server answers where it has nothing that makes AAC into Opus.
  await silent.page.route("**/whep/plain", async (route) => {
    const answer = await route.fetch();
    const body = (await answer.text()).replace(/^a=group:BUNDLE 0 1/m, "a=group:BUNDLE 0").replace(/^m=audio \d+/m, "m=audio 0");
    await route.fulfill({ response: answer, body });
  });
  await silent.signIn();
  await silent.go("stream/plain");
  const button = silent.page.locator(".over");
  await waitFor("what is missing", 20, async () => /without sound: this server does not bring AAC there/.test((await button.getAttribute("title")) ?? ""));
  await silent.page.keyboard.press("m");
  await silent.page.locator('.over[data-over="hls"]').waitFor();
  assert.match(await button.getAttribute("title"), /you turned the sound on, and this server does not bring AAC over WebRTC/);
  await silent.waitForGrowth();
  await silent.context.close();
});

test("B pictures that others refer to cannot go over WebRTC: HLS plays, with the reason", { timeout: 60_000 }, async () => {
  await console.go("stream/pyramid");
  await console.waitForGrowth();
  await says("hls");
  assert.match(await over().getAttribute("title"), /B pictures as references/);
  await page.getByRole("status").getByText("B pictures as references").waitFor({ state: "attached" });
  await lateness();
  assert.deepEqual(console.problems, []);
});

test("a network without UDP: HLS plays, and the address to let through is named", { timeout: 60_000 }, async () => {
  const shut = await Console.open(chrome, server);
  // Where nobody listens: what a firewall does.
  await shut.page.route("**/whep/**", async (route) => {
    const answer = await route.fetch();
    const body = (await answer.text()).replace(/^(a=candidate:\S+ \d+ udp \d+ \S+) \d+ /gm, "$1 9 ");
    await route.fulfill({ response: answer, body });
  });
  await shut.signIn();
  await shut.go("stream/plain");
  const button = shut.page.locator('.over[data-over="hls"]');
  await button.waitFor();
  assert.match(await button.getAttribute("title"), /Let UDP to 127\.0\.0\.1:9 through firewalls/);
  await shut.waitForGrowth();
  await shut.context.close();
});

test("servers that help through networks are taken from the answer", { timeout: 60_000 }, async () => {
  const helpers = ['url = "stun:stun.example.org"', 'url = "turn:turn.example.org?transport=tcp", username = "guest", credential = "pass"'];
  const helped = await Server.start(`[webrtc]\nice_servers = [${helpers.map((one) => `{ ${one} }`).join(", ")}]\n`);
  helped.push("plain", "plain.mp4", "--loop");
  await waitFor("fragments", 30, async () => (await helped.fragments("plain")).length >= 1);
  const viewer = await Console.open(chrome, helped);
  await viewer.page.addInitScript(() => {
    window.asked = [];
    const Real = RTCPeerConnection;
    window.RTCPeerConnection = class extends Real {
      constructor(options) {
        super(options);
        window.asked.push(options.iceServers);
      }
    };
  });
  await viewer.signIn();
  await viewer.go("stream/plain");
  await viewer.page.locator('.over[data-over="webrtc"][data-late]').waitFor();
  await viewer.waitForGrowth();
  const turn = { urls: "turn:turn.example.org?transport=tcp", username: "guest", credential: "pass" };
  assert.deepEqual(await viewer.page.evaluate(() => window.asked), [[], [{ urls: "stun:stun.example.org" }, turn]]);
  await viewer.context.close();
  await helped.stop();
});
