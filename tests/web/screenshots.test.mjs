// The pictures of the console in the README. Every run takes them; with KINORA_BLESS=1 they are put into the README's
// folder: look at them before committing.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Console } from "./console.mjs";
import { Server, browser, waitFor } from "./kinora.mjs";
import { rtcFlags } from "./rtc.mjs";

const bytesMax = 300_000;
const blessed = new URL("../../web/screenshots/", import.meta.url).pathname;

let server, chrome, folder;

before(async () => {
  server = await Server.start();
  for (const [name, label] of [["gate", "wall display"], ["*", "training set"]]) {
    await server.call("POST", "/v1/tokens", { label, streams: name, actions: ["play"], playback: true, expires_in: "30d" });
  }
  server.push("gate", "demo.mp4", "--loop");
  server.push("workshop", "bikes.mp4", "--loop");
  server.push("meadow", "bigbuckbunny.mp4", "--loop");
  // A stream with a past of two sessions and a gap.
  for (const _ of [1, 2]) {
    const stop = server.push("loading-dock", "demo.mp4");
    const before = (await server.fragments("loading-dock")).length;
    await waitFor("fragments", 40, async () => (await server.fragments("loading-dock")).length >= before + 14);
    await stop();
    const { last_time: last } = await server.call("GET", "/v1/streams/loading-dock");
    await waitFor("a gap", 10, () => Date.now() - Date.parse(last) > 6000);
  }
  chrome = await browser(...rtcFlags);
  folder = process.env.KINORA_BLESS === undefined ? mkdtempSync(join(tmpdir(), "kinora-screenshots-")) : blessed;
  mkdirSync(folder, { recursive: true });
});

after(async () => {
  await chrome?.close();
  await server?.stop();
  if (folder !== undefined && folder !== blessed) rmSync(folder, { recursive: true, force: true });
});

/** Takes a picture of 256 colours, which are enough for a page and a third of the bytes. */
async function take(page, name) {
  const whole = join(tmpdir(), `kinora-${process.pid}-${name}.png`);
  const file = join(folder, `${name}.png`);
  await page.screenshot({ path: whole });
  const palette = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=none";
  execFileSync("ffmpeg", ["-nostdin", "-v", "error", "-y", "-i", whole, "-vf", palette, "-compression_level", "100", file]);
  rmSync(whole);
  const bytes = statSync(file).size;
  assert.ok(bytes < bytesMax, `${name}: ${bytes} bytes`);
}

for (const colorScheme of ["light", "dark"]) {
  const named = (name) => (colorScheme === "light" ? name : `${name}-dark`);

  test(`the pages, ${colorScheme}`, async () => {
    const console = await Console.open(chrome, server, { colorScheme, viewport: { width: 1200, height: 960 } });
    const { page } = console;
    await console.signIn();
    await waitFor("every picture", 30, () =>
      page.evaluate(() => [...document.querySelectorAll(".tile-picture img")].filter((image) => image.naturalWidth > 0).length === 4),
    );
    await take(page, named("streams"));

    await console.go("stream/loading-dock");
    const { spans } = await server.call("GET", "/v1/streams/loading-dock/timeline");
    await waitFor("the timeline", 20, async () => Number(await page.getByRole("slider").getAttribute("data-spans")) === 2);
    const { x, y } = await console.place(Date.parse(spans[0].from) + 4_000);
    await page.mouse.click(x, y);
    await waitFor("a picture", 20, () => console.counter(1280));
    const beside = await console.place(Date.parse(spans[1].from) + 9_000);
    await page.mouse.move(beside.x, beside.y);
    await page.locator(".hover-card canvas").waitFor();
    await take(page, named("stream"));

    // The film without B pictures, live, where its number is drawn.
    await console.go("stream/meadow");
    await page.locator('.over[data-over="webrtc"][data-late]').waitFor();
    await page.getByRole("button", { name: "10 min" }).click();
    await take(page, named("live"));

    await console.go("publish");
    await page.getByRole("combobox", { name: "Stream", exact: true }).fill("desk");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await page.locator(".screen .state.live").waitFor();
    await page.locator(".on-air dt").filter({ hasText: "Round trip" }).waitFor();
    await take(page, named("publish"));
    await page.getByRole("button", { name: "Stop publishing" }).click();
    await server.call("DELETE", "/v1/streams/desk");

    await console.go("server");
    await page.getByText("wall display").waitFor();
    await page.getByRole("listitem").filter({ hasText: "Publisher came" }).first().waitFor();
    // Where a test keeps its data says nothing to a reader.
    await page.getByText(server.data).evaluate((element) => (element.textContent = "/var/lib/kinora"));
    await take(page, named("server"));
    assert.deepEqual(console.problems, []);
    await console.context.close();
  });
}
