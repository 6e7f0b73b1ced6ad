// The console's pages as the tests handle them: who is signed in, what the player shows, what the browser complains of.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { frameNumber, waitFor } from "./kinora.mjs";

const axe = createRequire(new URL("../../web/package.json", import.meta.url))("axe-core").source;

export class Console {
  /** A page of its own, which keeps what the browser reports as errors in `problems`. */
  static async open(chrome, server, options = {}) {
    const console = new Console();
    console.server = server;
    console.context = await chrome.newContext({ viewport: { width: 1280, height: 860 }, acceptDownloads: true, ...options });
    console.page = await console.context.newPage();
    console.problems = [];
    console.page.on("pageerror", (error) => console.problems.push(String(error)));
    console.page.on("console", (message) => {
      // That a stream cannot be watched over WebRTC is an answer like any other; the browser reports it as an error.
      const unplayable = message.text().includes("status of 415") && message.location().url.includes("/whep/");
      if (message.type() === "error" && !unplayable) console.problems.push(`${message.text()} ${message.location().url}`);
    });
    return console;
  }

  async signIn(token = this.server.admin) {
    await this.page.goto(`${this.server.http}/#token=${token}`);
    await this.page.getByRole("heading", { name: "Streams", exact: true }).waitFor();
  }

  async go(path) {
    await this.page.goto(`${this.server.http}/#/${path}`);
  }

  /** The number burnt into the picture of an element; `across` is the width of the clip when it was scaled. */
  numberIn(selector, across) {
    return this.page.evaluate(`(${frameNumber})(document.querySelector(${JSON.stringify(selector)}), ${across})`);
  }

  /** The number burnt into what the player shows: the video, or the single picture over it. */
  counter(across) {
    return this.page.evaluate(`(() => {
      const still = document.querySelector(".still");
      const seen = still !== null && !still.hidden ? still : document.querySelector("video");
      // The page may still be on its way.
      return seen === null ? null : (${frameNumber})(seen, ${across});
    })()`);
  }

  /** The drawn picture's burnt-in counter and the time it says, read at once: the next may be drawn at any moment. */
  counterAndTime(across) {
    return this.page.evaluate(`(() => {
      const still = document.querySelector(".still");
      return [(${frameNumber})(still, ${across}), Number(still.dataset.time)];
    })()`);
  }

  async waitForGrowth() {
    const seen = new Set();
    await waitFor("the counter to grow", 20, async () => {
      const counter = await this.counter();
      return counter !== null && seen.add(counter).size > 20;
    });
  }

  /** Where a time is on the timeline, in the page's pixels. */
  async place(time) {
    const bar = this.page.getByRole("slider");
    await bar.scrollIntoViewIfNeeded();
    const box = await bar.boundingBox();
    const [from, to] = await bar.evaluate((element) => [Number(element.dataset.from), Number(element.dataset.to)]);
    return { x: box.x + ((time - from) / (to - from)) * box.width, y: box.y + box.height * 0.6, from, to };
  }

  /** Fails when axe finds anything on the page as it is, or when the page is wider than its window. */
  async check(what) {
    await this.page.evaluate(axe);
    const found = await this.page.evaluate(() =>
      window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
    );
    const told = found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`);
    assert.deepEqual(told, [], `${what}: accessibility`);
    const [wide, window] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${what}: ${wide} pixels in a window of ${window}`);
  }
}
