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
