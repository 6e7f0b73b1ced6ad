// The console's server page: health, forecast, events; a token is made, shown once, used and taken back.

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
  await console.signIn();
  await page.getByRole("link", { name: "Server" }).click();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

test("it says how the server is, how long the disk lasts, and what happened", async () => {
  const { space } = await server.call("GET", "/v1/server");
  const verdict = { ok: "Running well", low: "Low on space", full: "Full: nothing is recorded" }[space.state];
  await page.getByText(verdict, { exact: true }).waitFor();
  await page.getByText(space.state === "ok" ? /^Room for .* at this rate$/ : "the oldest media is being deleted").waitFor();
  await page.getByRole("listitem").filter({ hasText: "Publisher came" }).getByRole("link", { name: "demo" }).waitFor();
});

test("a new token is shown once, does what it may, and is refused once revoked", async () => {
  await page.getByRole("button", { name: "New token" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Label").fill("wall display");
  await dialog.getByLabel("Streams", { exact: true }).fill("demo");
  await dialog.getByRole("button", { name: "Create" }).click();
  await dialog.getByText("it is not shown again").waitFor();
  const token = await dialog.getByLabel("The new token", { exact: true }).textContent();
  assert.match(token, /^kin_/);
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await page.getByText(token).waitFor({ state: "detached" });
  const play = () => fetch(`${server.http}/hls/demo/index.m3u8?token=${token}`).then((answer) => answer.status);
  assert.equal(await play(), 200);
  const seen = await fetch(`${server.http}/v1/streams`, { headers: { authorization: `Bearer ${token}` } });
  assert.deepEqual((await seen.json()).streams, [], "it may play and nothing else");
  const row = page.getByRole("row").filter({ hasText: "wall display" });
  assert.match(await row.textContent(), /demo.*play/);
  await row.getByRole("button", { name: "Revoke: wall display" }).click();
  await page.getByRole("dialog").getByText("cannot be undone").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await row.waitFor({ state: "detached" });
  assert.equal(await play(), 401);
  await page.getByLabel("Show 1 revoked or expired").check();
  await page.getByRole("row").filter({ hasText: "wall display" }).getByText("revoked").waitFor();
});

test("a publish secret is made for a pattern of streams, and ticked rights are what a token gets", async () => {
  await page.getByRole("button", { name: "New publish secret" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Streams", { exact: true }).fill("site-*");
  await dialog.getByRole("button", { name: "Create" }).click();
  const secret = await dialog.getByLabel("The new publish secret", { exact: true }).textContent();
  assert.ok(secret.length >= 20);
  await page.keyboard.press("Escape");
  await page.getByRole("row").filter({ hasText: "site-*" }).waitFor();

  await page.getByRole("button", { name: "New token" }).click();
  await dialog.getByLabel("Label").fill("robot");
  await dialog.getByLabel("Rights").selectOption("As ticked below");
  await dialog.getByRole("button", { name: "Create" }).click();
  await dialog.getByText("Tick at least one right.").waitFor();
  await dialog.getByLabel("see streams and their state").check();
  await dialog.getByRole("button", { name: "Create" }).click();
  await dialog.getByText("it is not shown again").waitFor();
  const { tokens } = await server.call("GET", "/v1/tokens");
  assert.deepEqual(tokens.find((one) => one.label === "robot").actions, ["read_stream"]);
  await page.keyboard.press("Escape");
  assert.deepEqual(console.problems, []);
});
