// A page of a stranger's own: hls.js from the package, or a bare <video src>.

import { createServer } from "node:http";
import { readFileSync, createReadStream, statSync } from "node:fs";

const hlsScript = readFileSync(new URL("../../web/node_modules/hls.js/dist/hls.min.js", import.meta.url));
const html = `<!doctype html><meta charset="utf-8"><title>player</title><video muted width="640"></video><script src="/hls.js"></script>`;

/** Serves the page, other `pages` (name to text), and any of `files` (name to path) with ranges; gives its origin and a function that stops it. */
export async function pageServer(files = {}, pages = {}) {
  const server = createServer((request, answer) => {
    const name = new URL(request.url, "http://page").pathname.slice(1);
    const text = name === "" ? html : pages[name];
    if (text !== undefined) return answer.setHeader("content-type", "text/html").end(text);
    if (name === "hls.js") return answer.setHeader("content-type", "text/javascript").end(hlsScript);
    const path = files[name];
    if (path === undefined) return answer.writeHead(404).end();
    const size = statSync(path).size;
    const [, from, to] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? "bytes=0-") ?? [];
    const start = Number(from);
    const end = to ? Math.min(Number(to), size - 1) : size - 1;
    answer.writeHead(206, {
      "content-type": "video/mp4",
      "accept-ranges": "bytes",
      "content-range": `bytes ${start}-${end}/${size}`,
      "content-length": end - start + 1,
    });
    createReadStream(path, { start, end }).pipe(answer);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { origin: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

/** In the page: plays an HLS address, and keeps what hls.js reports in `window.problems`. */
export function playHls([address, startPosition]) {
  const video = document.querySelector("video");
  window.problems = [];
  window.hls?.destroy();
  window.hls = new Hls({ startPosition });
  window.hls.on(Hls.Events.ERROR, (_, data) => window.problems.push(data.details));
  video.addEventListener("waiting", () => window.problems.push("waiting"));
  window.hls.loadSource(address);
  window.hls.attachMedia(video);
  return video.play();
}

/** In the page: plays the file at `name` and gives, for each flash, how many ms later its beep was heard. */
export async function beepsAfterFlashes(name) {
  const video = document.querySelector("video");
  video.crossOrigin = "anonymous";
  video.src = name;
  video.muted = false;
  const context = new AudioContext();
  await context.resume();
  const listen = context.createScriptProcessor(256, 1, 1);
  const beeps = [];
  let loud = false;
  listen.onaudioprocess = (event) => {
    const peak = event.inputBuffer.getChannelData(0).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (peak > 0.3 && !loud) beeps.push(performance.now());
    loud = peak > 0.1;
  };
  context.createMediaElementSource(video).connect(listen);
  listen.connect(context.destination);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const flashes = [];
  const look = (now, frame) => {
    const painter = canvas.getContext("2d", { willReadFrequently: true });
    painter.drawImage(video, 0, 0, 1, 1);
    if (painter.getImageData(0, 0, 1, 1).data[1] > 200) flashes.push(frame.expectedDisplayTime);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  await video.play();
  await new Promise((done) => (video.onended = done));
  await context.close();
  return flashes.flatMap((flash) => {
    const nearest = beeps.map((beep) => beep - flash).sort((a, b) => Math.abs(a) - Math.abs(b))[0];
    return nearest !== undefined && Math.abs(nearest) < 400 ? [nearest] : [];
  });
}

export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
