// One stream: what it shows now or showed then, the timeline, export, addresses, details.

import { serverNow } from "../clock";
import { api, Refused, type Stream } from "../api";
import { el } from "../dom";
import { icon } from "../icons";
import { Screen } from "../screen";
import * as show from "../show";
import { TimelineBar } from "../timeline/bar";
import { words } from "../words";
import type { Page } from "./page";
import { poll } from "./poll";
import { Controls } from "./stream/controls";
import { ExportCard } from "./stream/export";
import { describe } from "./stream/facts";
import { listenToKeys } from "./stream/keys";
import { LinksCard } from "./stream/links";
import { TimelineTools } from "./stream/tools";
import { format, since } from "./streams/card";
import { editStream } from "./streams/form";
import { showPush } from "./streams/push";

const refreshMs = 3000;
const followMs = 200;
/** The span shown at first is at least this, and at most a day. */
const spanMin = 120_000;
const spanMax = 86_400_000;

export function streamPage(page: Page, name: string): void {
  const { root, signal } = page;
  const problem = el("p", { class: "problem", role: "status" });
  const stopped = el("p", { class: "problem", role: "status" });
  const hint = el("p", { class: "notice", hidden: true });
  const state = el("span", { class: "state" });
  const summary = el("span", { class: "soft" });
  const facts = el("dl", { class: "facts" });
  const back = el("p", { hidden: true }, el("a", { href: "#/" }, words.error.back));
  let stream: Stream | undefined;
  let wasPlaying = false;

  const changed = (): void => {
    controls.draw();
    drawHint();
  };
  const screen = new Screen(name, signal, changed, (text) => (stopped.textContent = text));
  const timeline = new TimelineBar(name, signal, {
    scrub: (at) => {
      if (screen.mode() !== "still") wasPlaying = screen.isPlaying();
      screen.stand(at, true);
      controls.draw();
    },
    settle: (at) => {
      if (wasPlaying && screen.canPlay()) screen.playFrom(at);
      else screen.stand(at, false);
    },
    selected: (range) => exporting.setRange(range),
  });
  const goLive = (): void => {
    if (stream?.state === "live") screen.live();
    timeline.place(serverNow(), true);
    timeline.show(serverNow(), timeline.shown().to - timeline.shown().from, 0.9);
  };
  /** Shows that time: playing on when it plays, else as a picture. */
  const goTo = (at: number): void => {
    const time = Math.min(at, serverNow());
    if (screen.isPlaying() && screen.rate() >= 1 && screen.canPlay()) screen.playFrom(time);
    else screen.stand(time, false);
    timeline.place(time, false);
  };
  const jump = (at: number): void => {
    wasPlaying = false;
    goTo(at);
    timeline.show(at, timeline.shown().to - timeline.shown().from);
  };
  const step = (ms: number): void => {
    const at = screen.position();
    if (at !== undefined) goTo(at + ms);
  };
  const toggle = (): void => {
    if (screen.isPlaying()) screen.pause();
    else if (screen.mode() === "nothing" && stream?.first_time) screen.playFrom(Date.parse(stream.first_time));
    else screen.resume();
  };
  const controls = new Controls(screen, { toggle, step, goLive });
  const tools = new TimelineTools(timeline, { jump, goLive });
  const exporting = new ExportCard(name, signal, timeline, () => screen.position());
  const links = new LinksCard(name, signal, () => exporting.range(), () => screen.position());
  const edit = el("button", { type: "button", class: "quiet" }, icon("edit"), words.stream.edit);
  edit.addEventListener("click", () => stream && editStream(signal, stream, draw));
  const push = el("button", { type: "button", class: "quiet", click: () => showPush(signal, name) }, icon("camera"), words.stream.push);

  const content = el(
    "div",
    { hidden: true, class: "stream" },
    el("div", { class: "theatre" }, screen.element, controls.element),
    stopped,
    hint,
    el("section", { class: "card time-card", "aria-label": words.stream.timeline }, timeline.element, tools.element),
    el(
      "div",
      { class: "columns" },
      exporting.element,
      links.element,
      el("section", { class: "card" }, el("h2", {}, words.stream.facts), facts),
    ),
  );
  root.append(
    el("div", { class: "bar" }, el("h1", { class: "here" }, name), state, summary, el("div", { class: "bar-end" }, push, edit)),
    problem,
    back,
    content,
  );
  listenToKeys(signal, {
    toggle,
    step,
    goLive,
    wind: (direction) => screen.wind(direction),
    pause: () => screen.pause(),
    frameMs: () => 1000 / (stream?.tracks.find((track) => track.frame_rate)?.frame_rate ?? 25),
    begin: () => stream?.first_time && jump(Date.parse(stream.first_time)),
    mark: (end) => exporting.markHere(end),
    mute: () => controls.mute(),
    full: () => controls.full(),
  });

  const drawHint = (): void => {
    const video = stream?.tracks.find((track) => track.width !== undefined);
    const why = video?.codec_string === null ? words.player.nobodyCan : words.player.cannot;
    const text = screen.canPlay() || video === undefined ? "" : why(show.codec(video.codec));
    hint.hidden = text === "";
    if (hint.textContent !== text) hint.textContent = text;
  };
  const draw = (next: Stream): void => {
    const before = stream;
    stream = next;
    const live = next.state === "live";
    const nothing = next.last_time === null && !live;
    state.textContent = live ? words.streams.live : words.streams.idle;
    state.classList.toggle("live", live);
    summary.textContent = [format(next), live ? show.bitrate(next.bitrate) : "", next.viewers > 0 ? words.streams.viewers(next.viewers) : "", since(next)]
      .filter((text) => text !== "")
      .join(" · ");
    facts.replaceChildren(...describe(next));
    controls.setLive(live);
    const video = next.tracks.find((track) => track.width !== undefined);
    const sound = next.tracks.find((track) => track.channels !== undefined);
    screen.player.setCodecs(video?.codec, video?.codec_string, sound === undefined ? "" : show.codec(sound.codec));
    const since_ = next.publisher === null ? undefined : Date.parse(next.publisher.since);
    if (next.last_time !== null) timeline.recorded.extend(Date.parse(next.last_time), since_);
    if (before === undefined) fit(timeline, next);
    if (screen.mode() === "nothing" && !live && (before === undefined || before.state !== next.state)) screen.say(nothing ? words.player.never : words.player.idle, !nothing && video !== undefined);
    else if ((screen.mode() === "nothing" && live) || (screen.isLive() && live && before?.state === "idle")) screen.live();
    else if (screen.isLive() && !live) stopped.textContent = words.player.away;
    drawHint();
  };
  const refresh = async (): Promise<void> => {
    try {
      const next = await api.stream(name, signal);
      content.hidden = edit.hidden = push.hidden = false;
      back.hidden = true;
      // Drawn when it has its place: pictures are asked for as wide as that is.
      draw(next);
    } catch (error) {
      if (error instanceof Refused && error.status === 404) {
        content.hidden = edit.hidden = push.hidden = true;
        back.hidden = false;
        screen.say("", false);
      }
      throw error;
    }
  };
  const follow = setInterval(() => {
    const at = screen.position() ?? (stream?.last_time ? Date.parse(stream.last_time) : undefined);
    if (screen.mode() !== "still") timeline.place(at, screen.isLive());
    controls.draw();
  }, followMs);
  signal.addEventListener("abort", () => clearInterval(follow));
  void poll(page, refreshMs, refresh, (text) => (problem.textContent = text));
}

/** Shows all of a young stream, and the newest day of an old one. */
function fit(timeline: TimelineBar, stream: Stream): void {
  const end = stream.state === "live" || stream.last_time === null ? serverNow() : Date.parse(stream.last_time);
  const age = end - (stream.first_time === null ? end : Date.parse(stream.first_time));
  timeline.show(end, Math.min(spanMax, Math.max(spanMin, age * 1.2)), 0.9);
}
