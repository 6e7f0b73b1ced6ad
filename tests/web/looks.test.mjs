// Every page of the console, in light and dark, on a desk and on a phone: nothing that axe objects to, nothing that
// has to be scrolled sideways. And how much script it is.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Console } from "./console.mjs";
import { Server, browser, waitFor } from "./kinora.mjs";

let server, chrome;

before(async () => {
  server = await Server.start();
  server.push("gate", "demo.mp4", "--loop");
  server.push("lobby", "hevc.mp4", "--loop");
  await server.call("POST", "/v1/streams", { name: "warehouse-with-a-very-long-name-that-goes-on-and-on-and-on", tags: { site: "north" } });
  await server.call("POST", "/v1/tokens", { label: "wall display", streams: "*", actions: ["play"], playback: true });
  for (const name of ["gate", "lobby"]) await waitFor("fragments", 30, async () => (await server.fragments(name)).length >= 3);
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

const screens = { desk: { width: 1280, height: 860 }, phone: { width: 375, height: 780 } };

for (const colorScheme of ["light", "dark"]) {
  for (const [kind, viewport] of Object.entries(screens)) {
    test(`${colorScheme}, ${kind}`, async () => {
      const console = await Console.open(chrome, server, { colorScheme, viewport, reducedMotion: "reduce" });
      const { page } = console;
      const dialog = page.getByRole("dialog");
      await page.goto(server.http);
      await page.getByLabel("Token").waitFor();
      await console.check("sign in");
      await console.signIn();
      await page.locator(".state.live").first().waitFor();
      await console.check("streams");
      await page.getByRole("button", { name: "New stream" }).click();
      await console.check("new stream");
      await page.keyboard.press("Escape");
      await page.getByRole("searchbox").fill("nothing");
      await page.getByText("No stream's name starts with").waitFor();
      await console.check("nothing found");

      await console.go("stream/gate");
      await waitFor("the timeline", 10, async () => Number(await page.getByRole("slider").getAttribute("data-spans")) > 0);
      await page.getByRole("button", { name: "Make addresses" }).click();
      await page.getByText("Valid until").waitFor();
      await console.check("stream");
      await page.getByRole("button", { name: "How to push" }).click();
      await dialog.getByRole("button", { name: "Make a secret" }).click();
      await dialog.getByRole("img", { name: "QR code" }).waitFor();
      await console.check("how to push");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Keyboard keys" }).click();
      await console.check("keys");
      await page.keyboard.press("Escape");
      await console.go("stream/lobby");
      await page.getByText("This browser cannot play H.265").waitFor();
      await console.check("a format that the browser cannot play");
      await console.go("stream/warehouse-with-a-very-long-name-that-goes-on-and-on-and-on");
      await page.getByText("Nothing was recorded yet").waitFor();
      await console.check("a stream with nothing recorded");
      await console.go("stream/nobody");
      await page.getByText("There is no stream of this name.").waitFor();
      await console.check("no stream");

      await console.go("publish/gate");
      await page.getByText("Codec and token").click();
      await console.check("publish");

      await console.go("server");
      await page.getByText("wall display").waitFor();
      await console.check("server");
      await page.getByRole("button", { name: "New token" }).click();
      await dialog.getByLabel("Rights").selectOption("As ticked below");
      await console.check("new token");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Revoke: wall display" }).click();
      await console.check("revoke");
      await console.context.close();
    });
  }
}

test("the switch of colours overrules the system, and stays", async () => {
  const console = await Console.open(chrome, server, { colorScheme: "light" });
  await console.signIn();
  const ground = () => console.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await console.page.getByRole("button", { name: "Colours: as the system" }).click();
  await console.page.getByRole("button", { name: "Colours: light" }).click();
  await console.page.getByRole("button", { name: "Colours: dark" }).waitFor();
  const dark = await ground();
  assert.notEqual(dark, light);
  await console.page.reload();
  await console.page.getByRole("button", { name: "Colours: dark" }).waitFor();
  assert.equal(await ground(), dark);
  await console.context.close();
});

test("all script is less than 250 kB compressed", () => {
  const folder = new URL("../../web/dist/assets/", import.meta.url);
  const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"));
  const bytes = scripts.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, folder)), { level: 9 }).length, 0);
  assert.ok(scripts.length > 0 && bytes < 250_000, `${bytes} bytes of compressed script`);
});
