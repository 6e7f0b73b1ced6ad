// Starts the program under test, a camera, and a browser.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const root = new URL("../..", import.meta.url).pathname;
const { chromium } = createRequire(join(root, "web/package.json"))("playwright-core");
const kinora = process.env.KINORA ?? join(root, "target/debug/kinora");
const clips = process.env.KINORA_CLIPS ?? join(root, ".cache/clips");

export const clip = (name) => resolve(clips, name);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** A time of the API in milliseconds since the epoch, with its microseconds. */
export const precise = (text) => Date.parse(text) + Number(/\.\d{3}(\d{3})Z$/.exec(text)?.[1] ?? 0) / 1000;

/** Asks until there is an answer; fails after `seconds`. */
export async function waitFor(what, seconds, ask) {
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    const answer = await ask();
    if (answer) return answer;
    await sleep(100);
  }
  throw new Error(`waited ${seconds} s for ${what}`);
}

export class Server {
  /** Starts with an empty data folder and these lines as `kinora.toml`. */
  static async start(config = "") {
    const server = new Server();
    server.folder = mkdtempSync(join(tmpdir(), "kinora-web-"));
    server.data = join(server.folder, "data");
    const file = join(server.folder, "kinora.toml");
    writeFileSync(file, config);
    const log = openSync(join(server.folder, "log"), "a");
    const doors = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"];
    server.process = spawn(kinora, ["serve", "--config", file, "--data-dir", server.data, ...doors], {
      stdio: ["ignore", "pipe", log],
      // How full the disk of the machine is must not decide what a test finds.
      env: { ...process.env, KINORA_STORAGE_SOFT_FREE_PERMILLE: "2", KINORA_STORAGE_HARD_FREE_PERMILLE: "1" },
    });
    const [line] = await Promise.race([
      new Promise((done) => createInterface({ input: server.process.stdout }).once("line", (text) => done([text]))),
      new Promise((_, fail) => server.process.once("exit", (code) => fail(new Error(`kinora ended with ${code}`)))),
    ]);
    const ready = JSON.parse(line);
    server.http = `http://${ready.http}`;
    server.rtsp = ready.rtsp;
    server.webrtc = ready.webrtc;
    server.admin = readFileSync(join(server.data, "admin-token"), "utf8").trim();
    server.cameras = [];
    const key = await server.call("POST", "/v1/keys", { kind: "publish_secret", streams: "*" });
    server.secret = key.secret;
    return server;
  }

  async call(method, path, body) {
    const answer = await fetch(this.http + path, {
      method,
      // A connection of its own: one that is kept may be closed by the server just when it is used again.
      headers: { authorization: `Bearer ${this.admin}`, connection: "close", ...(body ? { "content-type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    const text = await answer.text();
    return text === "" ? undefined : JSON.parse(text);
  }

  /** Pushes a clip as a stream, over and over; gives a function that stops it. */
  push(name, file, ...options) {
    return this.pushTo(`rtsp://camera:${this.secret}@${this.rtsp}/${name}`, file, ...options);
  }

  /** The same to a whole address. */
  pushTo(url, file, ...options) {
    const camera = spawn(kinora, ["publish", clip(file), url, ...options], { stdio: "ignore" });
    this.cameras.push(camera);
    const gone = new Promise((done) => camera.once("exit", done));
    return async () => {
      camera.kill("SIGTERM");
      await gone;
    };
  }

  async fragments(name) {
    const answer = await fetch(`${this.http}/v1/streams/${name}/fragments?limit=1000`, {
      headers: { authorization: `Bearer ${this.admin}`, connection: "close" },
    });
    return answer.ok ? (await answer.json()).fragments : [];
  }

  async stop() {
    for (const camera of this.cameras) camera.kill("SIGKILL");
    const gone = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGTERM");
    await gone;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function browser(...more) {
  const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  flags.push("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", ...more);
  if (process.getuid() === 0) flags.push("--no-sandbox");
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });
}

/**
 * In the page: the frame number that `scripts/clips` drew into the picture of a video, a canvas or an image, or null when
 * there is none. A picture that was scaled is measured by `across`, the width of the clip.
 */
export function frameNumber(picture, across) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.videoWidth ?? picture.naturalWidth ?? picture.width;
  if (canvas.width === 0) return null;
  const unit = (16 * canvas.width) / (across ?? canvas.width);
  canvas.height = Math.ceil(unit);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const middle = (square) => Math.floor((square + 0.5) * unit);
  const white = (square) => context.getImageData(middle(square), middle(0), 1, 1).data[1] > 127;
  if (!white(0) || white(17)) return null;
  let number = 0;
  for (let bit = 1; bit <= 16; bit += 1) number = number * 2 + (white(bit) ? 1 : 0);
  return number;
}
