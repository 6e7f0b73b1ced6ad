// What viewers over WHEP are shown besides what was sent: the past, sound and pictures made into what a browser takes; and
// sessions whose network changes, or whose publisher sends layers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, browser, frameNumber, precise, sleep, waitFor } from "./kinora.mjs";
import { pageServer } from "./page.mjs";
import { pictureStats, publish, rtcFlags, watch } from "./rtc.mjs";

let server, chrome, pages, page;

before(async () => {
  server = await Server.start("[webrtc]\ntranscode = true\n");
  // B pictures that others refer to, and AAC.
  server.push("pyramid", "bframes.mp4", "--loop");
  server.push("plain", "plain.mp4", "--loop");
  chrome = await browser(...rtcFlags);
  pages = await pageServer();
  for (const name of ["pyramid", "plain"]) await waitFor(`fragments of ${name}`, 30, async () => (await server.fragments(name)).length >= 2);
});

after(async () => {
  await chrome?.close();
  pages?.stop();
  await server?.stop();
});

async function view(path) {
  page = await chrome.newPage();
  await page.goto(pages.origin);
  const answer = await page.evaluate(watch, [server.http + path, server.admin]);
  assert.equal(answer.status, 201, JSON.stringify(answer));
  await waitFor("pictures", 15, async () => (await page.evaluate(pictureStats, "viewer")).framesDecoded > 20);
  return answer;
}

/** The numbers in the pictures of the next second. */
async function numbers() {
  const seen = [];
  for (let count = 0; count < 10; count += 1) {
    seen.push(await page.evaluate(`(${frameNumber})(document.querySelector("video"))`));
    await sleep(100);
  }
  return seen.filter((number) => number !== null);
}

const sound = () =>
  page.evaluate(async () => {
    const report = [...(await window.viewer.getStats()).values()];
    const found = report.find((one) => one.type === "inbound-rtp" && one.kind === "audio");
    return { packets: found?.packetsReceived ?? 0, heard: found?.totalSamplesReceived ?? 0, energy: found?.totalAudioEnergy ?? 0 };
  });

test("the past is shown from the asked instant on, at its own pace", async () => {
  const [fragment] = await server.fragments("plain");
  // The clip has 25 pictures a second; its first one is the fragment's first.
  const from = Math.ceil(precise(fragment.producer_time)) + 1_000;
  await view(`/whep/plain?from=${from}`);
  const numberNow = () => page.evaluate(`(${frameNumber})(document.querySelector("video"))`);
  const first = await waitFor("a picture", 5, numberNow);
  const begun = Date.now();
  assert.ok(first >= 25, `picture ${first} is before the asked instant`);
  await sleep(3_000);
  const pace = ((await numberNow()) - first) / ((Date.now() - begun) / 1000);
  assert.ok(pace > 15 && pace < 35, `${pace.toFixed(1)} pictures a second`);
  await page.close();
});

test("AAC is heard as Opus, and pictures out of order are shown as H.264", async () => {
  await view("/whep/pyramid");
  // Of what is muted Chromium measures no loudness.
  await page.evaluate(() => (document.querySelector("video").muted = false));
  const stats = await page.evaluate(pictureStats, "viewer");
  assert.equal(stats.codec, "video/H264");
  const seen = await numbers();
  assert.ok(seen.length >= 5 && seen.at(-1) !== seen[0], `pictures ${seen}`);
  const heard = await waitFor("sound", 10, async () => {
    const now = await sound();
    return now.packets > 25 && now.energy > 0 && now;
  });
  assert.ok(heard.heard > 20_000, JSON.stringify(heard));
  await page.close();
});

test("two viewers of a stream share what makes its sound into Opus", async () => {
  await view("/whep/plain");
  const other = await chrome.newPage();
  await other.goto(pages.origin);
  await other.evaluate(watch, [`${server.http}/whep/plain`, server.admin]);
  await waitFor("both", 10, async () => (await server.call("GET", "/v1/streams/plain")).viewers === 2);
  const metrics = await (await fetch(`${server.http}/metrics`, { headers: { authorization: `Bearer ${server.admin}`, connection: "close" } })).text();
  const running = metrics.split("\n").filter((line) => line.startsWith("kinora_transcodes{"));
  const sounds = running.filter((line) => line.includes("opus")).map((line) => Number(line.split(" ").at(-1)));
  assert.ok(sounds.reduce((all, one) => all + one, 0) <= 2, `one for each stream: ${running.join("; ")}`);
  await other.close();
  await page.close();
});

test("a publisher whose network changes restarts ICE and is recorded on", async () => {
  page = await chrome.newPage();
  await page.goto(pages.origin);
  const made = await page.evaluate(publish, [`${server.http}/whip/moving`, server.admin, "video/H264"]);
  assert.equal(made.status, 201);
  await waitFor("frames", 10, async () => (await page.evaluate(pictureStats, "publisher")).framesSent > 20);
  const restarted = await page.evaluate(
    async ([url, token, sdp]) => {
      const peer = window.publisher;
      await peer.setLocalDescription(await peer.createOffer({ iceRestart: true }));
      const value = (text, name) => new RegExp(`a=${name}:(.*)`).exec(text)?.[1].trim();
      const names = ["ice-ufrag", "ice-pwd"];
      const answer = await fetch(url, {
        method: "PATCH",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/trickle-ice-sdpfrag", "if-match": "*" },
        body: names.map((name) => `a=${name}:${value(peer.localDescription.sdp, name)}\r\n`).join(""),
      });
      const fragment = await answer.text();
      const renewed = names.reduce((text, name) => text.replace(new RegExp(`a=${name}:.*`, "g"), `a=${name}:${value(fragment, name)}`), sdp);
      await peer.setRemoteDescription({ type: "answer", sdp: renewed });
      return { status: answer.status, etag: answer.headers.get("etag"), ufrag: value(fragment, "ice-ufrag") };
    },
    [server.http + made.location, server.admin, made.sdp],
  );
  assert.equal(restarted.status, 200);
  assert.equal(restarted.etag, `"${restarted.ufrag}"`);
  assert.notEqual(restarted.etag, made.etag);
  // What is kept for ten seconds by the old credentials must go on by the new ones.
  await sleep(12_000);
  const stats = await page.evaluate(pictureStats, "publisher");
  assert.equal(stats.connection, "connected");
  const recorded = await server.fragments("moving");
  const seconds = recorded.reduce((all, one) => all + one.duration, 0);
  assert.ok(seconds > 10, `${seconds} s recorded`);
  await page.close();
});

test("of a publisher that sends layers the first is recorded", async () => {
  page = await chrome.newPage();
  await page.goto(pages.origin);
  const layers = [{ rid: "h" }, { rid: "l", scaleResolutionDownBy: 2 }];
  const made = await page.evaluate(publish, [`${server.http}/whip/layers`, server.admin, "video/H264", undefined, layers]);
  assert.equal(made.status, 201, JSON.stringify(made));
  await waitFor("a fragment", 15, async () => (await server.fragments("layers")).length >= 1);
  const { tracks } = await server.call("GET", "/v1/streams/layers");
  assert.deepEqual(
    tracks.filter((track) => track.width > 0).map((track) => [track.width, track.height]),
    [[640, 360]],
  );
  await page.close();
});
