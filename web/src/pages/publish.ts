// Publishes from this browser: camera or screen, a preview, a stream's name; what goes out, and why it does not.

import { api } from "../api";
import { el, renew } from "../dom";
import { icon } from "../icons";
import { Publishing, sendable, type Codec, type Figures, type State } from "../rtc/publish";
import { token } from "../session";
import * as show from "../show";
import { choice, field } from "../widgets/field";
import { words } from "../words";
import * as zone from "../zone";
import type { Page } from "./page";
import { explain } from "./publish/refusals";
import { Source } from "./publish/source";
import { isName } from "./streams/form";

const lookMs = 1000;
/** Browsers begin with a small picture and let it grow: until then nothing holds it back. */
const startMs = 20_000;
const usualTlsPort = "8443";

export function publishPage(page: Page, given: string): void {
  const { root, signal } = page;
  const bar = el("div", { class: "bar" }, el("h1", {}, words.publish.title));
  root.append(bar);
  // Browsers hide cameras from pages that came over a line that others can listen to.
  if (!isSecureContext || navigator.mediaDevices === undefined) {
    root.append(insecure(signal, given));
    return;
  }

  const preview = el("video", { playsinline: true, "aria-label": words.publish.preview });
  preview.muted = true;
  const cover = el("p", { class: "cover" }, words.publish.nothing);
  const state = el("span", { class: "state" });
  const name = el("input", { autocomplete: "off", spellcheck: "false", maxlength: 256, required: true, list: "streams" });
  name.value = given;
  const names = el("datalist", { id: "streams" });
  const offered = Object.fromEntries(sendable().map((codec) => [codec, show.codec(codec.toLowerCase())]));
  const codec = choice({ "": words.publish.anyCodec, ...offered });
  const other = el("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  const problem = el("p", { class: "problem", role: "alert" });
  const facts = el("dl", { class: "facts" });
  const watch = el("a", { target: "_blank", rel: "noopener", hidden: true }, words.publish.watch);
  const look = el("button", { type: "button", class: "quiet" }, icon("camera"), words.publish.look);
  const go = el("button", { type: "submit", class: "main" }, icon("air"), words.publish.go);
  const stop = el("button", { type: "button", class: "danger", hidden: true }, icon("stop"), words.publish.stop);
  const said = el("span", { class: "unseen", role: "status" });

  let busy = false;
  let lock: WakeLockSentinel | undefined;
  const publishing = new Publishing((now) => draw(now));
  const isOff = (): boolean => publishing.current().is === "idle";

  const close = (): void => {
    source.close();
    preview.srcObject = null;
    drawPreview();
  };
  const source = new Source(
    () => {
      const was = source.isOpen();
      close();
      // Who looks at one camera and takes another wants to see that one; a screen must be picked by hand.
      if (was && source.from() === "camera") void open().catch(tell);
    },
    () => {
      const sentence = source.from() === "screen" ? words.publish.sharingEnded : words.publish.deviceEnded;
      close();
      publishing.stop();
      problem.textContent = sentence;
    },
  );
  const tell = (error: unknown): void => {
    if (!signal.aborted) problem.textContent = explain(error, name.value, source.from() === "screen");
  };
  const open = async (): Promise<MediaStream> => {
    problem.textContent = "";
    busy = true;
    drawPreview();
    try {
      const media = await source.open();
      if (signal.aborted) source.close();
      preview.srcObject = media;
      void preview.play().catch(() => undefined);
      return media;
    } finally {
      busy = false;
      drawPreview();
    }
  };
  const start = async (): Promise<void> => {
    if (!isName(name.value)) {
      problem.textContent = words.form.nameWrong;
      return name.focus();
    }
    const media = await open();
    if (signal.aborted) return;
    const key = other.value.trim() === "" ? (token() ?? "") : other.value.trim();
    publishing.start(name.value, key, media, codec.value === "" ? undefined : (codec.value as Codec));
  };
  look.addEventListener("click", () => {
    if (source.isOpen()) close();
    else void open().catch(tell);
  });
  stop.addEventListener("click", () => {
    publishing.stop();
    go.focus();
  });

  const drawPreview = (): void => {
    cover.hidden = source.isOpen();
    cover.textContent = busy ? words.publish.asking : words.publish.nothing;
    const label = source.isOpen() ? words.publish.lookNoMore : source.from() === "screen" ? words.publish.lookScreen : words.publish.look;
    renew(look, label, () => [icon(source.from() === "screen" ? "screen" : "camera"), label]);
    look.hidden = !isOff();
    look.disabled = go.disabled = busy;
  };
  const draw = (now: State): void => {
    if (signal.aborted) return;
    const off = now.is === "idle";
    const sentence = off ? "" : now.is === "live" ? words.publish.live(name.value) : words.publish.states[now.is];
    state.textContent = off ? "" : now.is === "live" ? words.streams.live : words.publish.states[now.is];
    state.classList.toggle("live", now.is === "live");
    said.textContent = sentence;
    if (now.is === "idle" && now.error !== undefined) tell(now.error);
    else if (now.is === "waiting") problem.textContent = words.publish.again(explain(now.error, name.value, false));
    else problem.textContent = "";
    for (const control of [name, codec, other]) control.disabled = !off;
    source.lock(!off);
    go.hidden = !off;
    stop.hidden = off;
    watch.hidden = now.is !== "live";
    watch.href = `#/stream/${name.value}`;
    if (now.is !== "live") facts.replaceChildren();
    stayAwake(!off);
    drawPreview();
  };
  // A phone that goes to sleep takes its camera away.
  const stayAwake = (on: boolean): void => {
    if (!on) void lock?.release().catch(() => undefined);
    if (!on) lock = undefined;
    else if (lock === undefined) navigator.wakeLock?.request("screen").then((got) => (lock = got), () => undefined);
  };

  const form = el(
    "form",
    {
      class: "card",
      novalidate: true,
      submit: (event) => {
        event.preventDefault();
        if (isOff() && !busy) void start().catch(tell);
      },
    },
    field(words.publish.stream, name, words.publish.streamHint),
    names,
    source.element,
    el(
      "details",
      {},
      el("summary", {}, words.publish.more),
      el("div", { class: "more-fields" }, field(words.publish.codecLabel, codec, words.publish.codecHint), field(words.publish.token, other, words.publish.tokenHint)),
    ),
    problem,
    el("div", { class: "actions start" }, go, stop, look, watch),
    el("p", { class: "hint" }, words.publish.leaving),
    said,
  );
  const screen = el("div", { class: "screen" }, preview, cover, state);
  root.append(el("div", { class: "publish" }, el("div", { class: "theatre" }, screen, el("div", { class: "on-air" }, facts)), form));
  drawPreview();

  void api.streams("", undefined, signal).then(
    ({ streams }) => names.append(...streams.map((stream) => el("option", { value: stream.name }))),
    () => undefined,
  );
  const timer = setInterval(() => {
    const now = publishing.current();
    if (now.is !== "live") return;
    void publishing.figures().then((figures) => publishing.current() === now && facts.replaceChildren(...describe(now.since, figures)));
  }, lookMs);
  const hold = (event: BeforeUnloadEvent): void => {
    if (!isOff()) event.preventDefault();
  };
  addEventListener("beforeunload", hold, { signal });
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    publishing.stop();
    source.close();
    stayAwake(false);
  });
}

function describe(since: number, figures: Figures): Node[] {
  const { bitrate, width, height, rate, codec, sound, lost, sent, roundTripMs, limit } = figures;
  const facts: [string, string][] = [[words.publish.since, `${zone.clock(since)} (${show.duration(Date.now() - since)})`]];
  if (width !== undefined && height !== undefined) {
    const name = codec === undefined ? "" : `${show.codec(codec)} `;
    facts.push([words.publish.picture, `${name}${width}×${height}${rate === undefined ? "" : `, ${Math.round(rate)} fps`}`]);
  }
  facts.push([words.publish.soundNow, sound === undefined ? words.publish.noSound : show.codec(sound)]);
  if (bitrate !== undefined) facts.push([words.stream.bitrate, show.bitrate(bitrate)]);
  if (lost !== undefined && sent !== undefined && sent > 0) {
    facts.push([words.publish.lost, words.publish.lostOf(lost, ((lost / sent) * 100).toFixed(1))]);
  }
  if (roundTripMs !== undefined) facts.push([words.publish.roundTrip, `${Math.round(roundTripMs)} ms`]);
  if ((limit === "bandwidth" || limit === "cpu") && Date.now() - since > startMs) facts.push([words.publish.limited, words.publish.limits[limit]!]);
  return facts.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", { class: "number" }, text)));
}

/** Says why there is no camera here, with the address where there is one. */
function insecure(signal: AbortSignal, name: string): HTMLElement {
  const hash = name === "" ? "#/publish" : `#/publish/${name}`;
  const link = el("a", {});
  const point = (port: string): void => {
    link.href = `https://${location.hostname}:${port}/${hash}`;
    link.textContent = link.href;
  };
  point(usualTlsPort);
  // Only administrators may ask where the server listens; others are told the usual port.
  void api.server(signal).then(
    ({ listeners }) => point(listeners.https?.split(":").pop() ?? usualTlsPort),
    () => undefined,
  );
  if (isSecureContext) return el("p", { class: "notice" }, words.publish.noMedia);
  return el("div", { class: "notice" }, el("p", {}, words.publish.insecure), el("p", {}, link), el("p", {}, words.publish.certificate));
}
