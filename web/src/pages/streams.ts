// All streams: name, state, bitrate, what is stored; refreshed every two seconds.

import { api, type Stream } from "../api";
import { el } from "../dom";
import * as show from "../show";
import { words } from "../words";
import { poll } from "./poll";

export function streamsPage(page: HTMLElement, signal: AbortSignal, refused: () => void): void {
  const problem = el("p", { class: "problem", role: "status" });
  const rows = el("tbody");
  const empty = el("div");
  const more = el("button", { class: "quiet", hidden: true }, words.streams.more);
  let pages = 1;
  const search = el("input", { type: "search", "aria-label": words.streams.search, placeholder: words.streams.search });

  const head = [words.streams.name, words.streams.state, words.streams.bitrate, words.streams.tracks, words.streams.last, words.streams.stored];
  const columns = el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)));
  const table = el("table", { hidden: true }, el("thead", {}, columns), rows);
  page.append(
    el("div", { class: "bar" }, el("h1", {}, words.streams.title), search),
    problem,
    table,
    empty,
    more,
  );

  // Only administrators may ask where the server listens; others are told the usual port.
  let port = "8554";
  const listeners = api.server(signal).then((server) => (port = server.listeners.rtsp?.split(":").pop() ?? port));
  const known = listeners.catch(() => undefined);

  const refresh = async (): Promise<void> => {
    await known;
    const streams: Stream[] = [];
    let cursor: string | undefined;
    for (let count = 0; count < pages; count += 1) {
      const answer = await api.streams(search.value.trim(), cursor, signal);
      streams.push(...answer.streams);
      cursor = answer.cursor;
      if (cursor === undefined) break;
    }
    more.hidden = cursor === undefined;
    rows.replaceChildren(...streams.map(row));
    table.hidden = streams.length === 0;
    empty.replaceChildren(...(streams.length > 0 ? [] : nothing(search.value.trim(), port)));
  };
  const now = (): void => void refresh().catch(() => undefined);
  search.addEventListener("input", now);
  more.addEventListener("click", () => {
    pages += 1;
    now();
  });
  void poll(2000, signal, refresh, (text) => (problem.textContent = text), refused);
}

function row(stream: Stream): HTMLElement {
  const tracks = stream.tracks.map((track) => (track.width ? `${track.codec} ${track.width}×${track.height}` : track.codec)).join(", ");
  const last = stream.last_time ? show.time(new Date(stream.last_time)) : words.streams.never;
  const state = stream.state === "live" ? words.streams.live : words.streams.idle;
  return el(
    "tr",
    {},
    el("td", {}, el("a", { href: `#/stream/${stream.name}` }, stream.name)),
    el("td", {}, el("span", { class: `state ${stream.state}` }, state)),
    el("td", { class: "number" }, show.bitrate(stream.bitrate)),
    el("td", {}, tracks),
    el("td", {}, last),
    el("td", { class: "number" }, show.bytes(stream.bytes)),
  );
}

function nothing(search: string, port: string): Node[] {
  if (search !== "") return [el("p", {}, words.streams.nothingFound(search))];
  const push = `ffmpeg -re -i clip.mp4 -c copy -f rtsp rtsp://camera:SECRET@${location.hostname}:${port}/my-camera`;
  const steps: [string, string][] = [
    [words.streams.makeSecret, "kinora key create --streams 'my-*'"],
    [words.streams.push, push],
  ];
  const list = steps.map(([text, command]) => el("li", {}, text, el("pre", {}, command)));
  return [el("div", { class: "card" }, el("h2", {}, words.streams.empty), el("ol", {}, ...list))];
}
