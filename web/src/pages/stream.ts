// One stream: a player, live or from a picked time, and the timeline of what was recorded.

import { api, Refused, type Stream } from "../api";
import { el } from "../dom";
import { Player } from "../player";
import * as show from "../show";
import { TimelineBar } from "../timeline";
import { words } from "../words";
import { poll } from "./poll";

const ranges = { minutes: 600_000, hour: 3_600_000, day: 86_400_000, week: 604_800_000 } as const;
const shortestBar = 60_000;
type Range = keyof typeof ranges;

export function streamPage(page: HTMLElement, name: string, signal: AbortSignal, refused: () => void): void {
  const problem = el("p", { class: "problem", role: "status" });
  const stopped = el("p", { class: "problem", role: "status" });
  const mode = el("p", { class: "mode" });
  const cover = el("p", { class: "cover" });
  const facts = el("dl", { class: "facts" });
  const player = new Player((text) => (stopped.textContent = text));
  let range: Range | undefined;
  let playing: "nothing" | "live" | "past" = "nothing";
  let shown: Stream | undefined;

  const start = (what: "live" | "past", text: string, from?: Date): void => {
    playing = what;
    mode.textContent = text;
    mode.classList.toggle("live", what === "live");
    cover.textContent = stopped.textContent = "";
    player.video.hidden = false;
    player.play(name, from);
  };
  const playLive = (): void => start("live", words.stream.live);
  const playFrom = (time: Date): void =>
    start("past", `${words.stream.recorded(show.time(time))} (${show.zone()})`, time);

  const timeline = new TimelineBar(playFrom);
  const live = el("button", { type: "button", click: playLive }, words.stream.goLive);
  const when = el("input", { type: "datetime-local", step: 1, "aria-label": words.stream.at });
  const choose = el(
    "select",
    {
      "aria-label": words.stream.rangeLabel,
      change: () => {
        range = choose.value as Range;
        void redraw().catch(() => undefined);
      },
    },
    ...Object.entries(words.stream.range).map(([value, text]) => el("option", { value }, text)),
  );
  const pick = el(
    "form",
    {
      class: "bar",
      submit: (event) => {
        event.preventDefault();
        if (when.value !== "") playFrom(new Date(when.value));
      },
    },
    live,
    choose,
    when,
    el("button", { type: "submit", class: "quiet" }, words.stream.play),
  );
  const screen = el("div", { class: "screen" }, player.video, cover);
  const content = el("div", { hidden: true }, screen, mode, stopped, timeline.element, pick, facts);
  const back = el("p", { hidden: true }, el("a", { href: "#/" }, words.error.back));
  player.video.hidden = true;
  page.append(problem, back, content);

  const redraw = async (): Promise<void> => {
    if (shown === undefined) return;
    range ??= fitting(shown);
    choose.value = range;
    // An idle stream's newest media may be long ago.
    const to = shown.state === "live" || shown.last_time === null ? new Date() : new Date(shown.last_time);
    // Nothing is to be seen from before a stream's first media.
    const first = shown.first_time === null ? 0 : Math.min(Date.parse(shown.first_time), to.getTime() - shortestBar);
    const from = new Date(Math.max(to.getTime() - ranges[range], first));
    timeline.draw(await api.timeline(name, from, to, signal), from, to);
  };
  const refresh = async (): Promise<void> => {
    const before = shown?.state;
    try {
      shown = await api.stream(name, signal);
    } catch (error) {
      if (error instanceof Refused && error.status === 404) {
        content.hidden = true;
        back.hidden = false;
        player.stop();
        playing = "nothing";
      }
      throw error;
    }
    content.hidden = false;
    back.hidden = true;
    facts.replaceChildren(...describe(shown));
    live.disabled = shown.state !== "live";
    const isLive = shown.state === "live";
    const nothing = shown.last_time === null;
    if (playing === "nothing" && !isLive) {
      player.video.hidden = true;
      cover.textContent = nothing ? words.stream.never : words.stream.idle;
    } else if (playing === "nothing" || (playing === "live" && isLive && before === "idle")) {
      playLive();
    } else if (playing === "live" && !isLive) {
      mode.textContent = words.stream.away;
      mode.classList.remove("live");
    }
    timeline.element.hidden = pick.hidden = nothing && playing === "nothing";
    await redraw();
  };
  const follow = setInterval(() => timeline.show(player.shownAt()), 250);
  signal.addEventListener("abort", () => {
    clearInterval(follow);
    player.stop();
  });
  void poll(3000, signal, refresh, (text) => (problem.textContent = text), refused);
}

/** The smallest range that shows all of a young stream. */
function fitting(stream: Stream): Range {
  const end = stream.state === "live" || stream.last_time === null ? Date.now() : Date.parse(stream.last_time);
  const age = end - (stream.first_time === null ? end : Date.parse(stream.first_time));
  const names = Object.keys(ranges) as Range[];
  return names.find((name) => ranges[name] >= age) ?? "day";
}

function describe(stream: Stream): Node[] {
  const { publisher } = stream;
  const facts: [string, string][] = [
    [words.streams.state, stream.state === "live" ? words.streams.live : words.streams.idle],
  ];
  if (publisher !== null) {
    const from = words.stream.from(publisher.protocol, publisher.peer, show.time(new Date(publisher.since)));
    facts.push([words.stream.publisher, from + (publisher.lost > 0 ? words.stream.lost(publisher.lost) : "")]);
  }
  facts.push([words.streams.bitrate, show.bitrate(stream.bitrate)], [words.streams.stored, show.bytes(stream.bytes)]);
  stream.tracks.forEach((track, at) => {
    const size = track.width ? ` ${track.width}×${track.height}` : "";
    const rate = track.frame_rate ? `, ${Number(track.frame_rate.toFixed(2))} fps` : "";
    const name = track.codec_string === null ? "" : ` (${track.codec_string})`;
    facts.push([at === 0 ? words.streams.tracks : "", `${track.codec}${size}${rate}${name}`]);
  });
  for (const note of stream.notes) facts.push(["", note]);
  const address = new URL(api.hlsAddress(stream.name), location.href).href;
  facts.push([words.stream.address, address], ["", words.stream.needsToken]);
  return facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]);
}
