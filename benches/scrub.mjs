// Drags over a day's timeline in the console and measures how far the picture is behind the pointer:
//
//   node benches/scrub.mjs http://HOST:PORT TOKEN END_SECONDS
//
// Prints JSON. `drag`: from each pointer move until a picture that was asked for by it, or by a later one, is on the
// screen. `rest`: from letting go until the exact picture of that instant is.

import { browser, waitFor } from "../tests/web/kinora.mjs";

const [http, token, end] = process.argv.slice(2);
const drags = 20;
const movesADrag = 150;
/** A hand's mouse tells where it is about this often. */
const moveMs = 16;

/** The same hand at every run. */
let seed = 20_260_101;
function random() {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
}

/** In the page: notes every move over the timeline, and when a picture answered it. */
function watch() {
  const bar = document.querySelector(".timeline");
  const still = document.querySelector(".still");
  const noted = (window.noted = { behind: [], rest: [], pictures: 0 });
  let open = [];
  let released;
  bar.addEventListener("pointermove", (event) => {
    if (event.buttons === 1) open.push({ at: bar.dataset.wished, when: event.timeStamp });
  });
  bar.addEventListener("pointerup", (event) => (released = { at: bar.dataset.wished, when: event.timeStamp }));
  new MutationObserver(() => {
    const { asked, exact } = still.dataset;
    requestAnimationFrame(() => {
      const now = performance.now();
      noted.pictures += 1;
      const last = open.findLastIndex(({ at }) => at === asked);
      noted.behind.push(...open.slice(0, last + 1).map(({ when }) => now - when));
      open = open.slice(last + 1);
      if (released?.at === asked && exact === "true") {
        noted.rest.push(now - released.when);
        released = undefined;
        open = [];
      }
    });
  }).observe(still, { attributes: true, attributeFilter: ["data-wish"] });
}

const shares = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { count: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), most: at(1) };
};

const chrome = await browser();
try {
  const page = await chrome.newPage({ viewport: { width: 1280, height: 900 } });
  await page.goto(`${http}/#token=${token}`);
  await page.getByRole("link", { name: "day", exact: true }).click();
  const bar = page.getByRole("slider");
  await page.getByRole("button", { name: "1 day" }).click();
  await waitFor("the day", 60, async () => Number(await bar.getAttribute("data-spans")) > 0);
  await page.evaluate(watch);
  await bar.scrollIntoViewIfNeeded();
  const box = await bar.boundingBox();
  const [from, to] = await bar.evaluate((element) => [Number(element.dataset.from), Number(element.dataset.to)]);
  const x = (time) => box.x + Math.min(0.999, Math.max(0, (time - from) / (to - from))) * box.width;
  const [left, right] = [x(Number(end) * 1000 - 86_400_000) + 2, x(Number(end) * 1000) - 2];
  const y = box.y + box.height * 0.6;
  for (let drag = 0; drag < drags; drag += 1) {
    let [at, goal] = [left + random() * (right - left), left + random() * (right - left)];
    await page.mouse.move(at, y);
    await page.mouse.down();
    for (let move = 0; move < movesADrag; move += 1) {
      // A hand is fast on its way and slow where it looks closely.
      if (Math.abs(goal - at) < 3) goal = left + random() * (right - left);
      at += (goal - at) * (0.02 + 0.1 * random());
      await page.mouse.move(at, y);
      await new Promise((done) => setTimeout(done, moveMs));
    }
    await page.mouse.up();
    await waitFor("the exact picture", 10, () => page.evaluate((count) => window.noted.rest.length > count, drag));
  }
  const { behind, rest, pictures } = await page.evaluate(() => window.noted);
  process.stdout.write(`${JSON.stringify({ drag: shares(behind), rest: shares(rest), pictures })}\n`);
} finally {
  await chrome.close();
}
