// The player's controls, and what it shows: live, a recording, a picture.

import { serverNow } from "../../clock";
import { el } from "../../dom";
import { iconButton, reface } from "../../icons";
import type { Screen } from "../../screen";
import { openDialog } from "../../widgets/dialog";
import * as show from "../../show";
import { words } from "../../words";
import * as zone from "../../zone";

const leapMs = 10_000;
/** Between two values of "how late": one that flickers cannot be read. */
const lateEveryMs = 1000;

export interface Verbs {
  toggle(): void;
  step(ms: number): void;
  goLive(): void;
}

export class Controls {
  private readonly play: HTMLButtonElement;
  private readonly sound: HTMLButtonElement;
  private readonly live: HTMLButtonElement;
  private readonly what = el("span", { class: "what" });
  private readonly time = el("output", { class: "number when", "aria-live": "off" });
  /** What live comes over and how late; a press takes the other one. */
  private readonly over: HTMLButtonElement;
  private readonly overName = el("span");
  private readonly overWhy = el("span", { class: "unseen" });
  private readonly late = el("span", { class: "number" });
  private readonly overSaid = el("span", { class: "unseen", role: "status" });
  private lateAt = 0;
  readonly element: HTMLElement;

  constructor(
    private readonly screen: Screen,
    verbs: Verbs,
  ) {
    this.play = iconButton("play", words.player.play, verbs.toggle, "ghosty");
    this.sound = iconButton("silent", words.player.unmute, () => this.mute(), "ghosty");
    this.live = el("button", { type: "button", class: "ghosty go-live", title: words.player.liveHint, click: verbs.goLive }, words.player.goLive);
    const change = (): void => {
      screen.player.change();
      this.draw();
    };
    this.over = el("button", { type: "button", class: "over", hidden: true, click: change }, this.overName, this.late, this.overWhy);
    this.element = el(
      "div",
      { class: "controls", role: "group", "aria-label": words.player.controls },
      this.play,
      iconButton("back", words.player.back, () => verbs.step(-leapMs), "ghosty"),
      iconButton("ahead", words.player.ahead, () => verbs.step(leapMs), "ghosty"),
      this.live,
      el("span", { class: "reading" }, this.time, this.what, this.over, this.overSaid),
      this.sound,
      iconButton("keys", words.player.keys, () => this.keys(), "ghosty"),
      iconButton("full", words.player.full, () => this.full(), "ghosty"),
    );
    screen.player.video.addEventListener("volumechange", () => this.draw());
    screen.element.addEventListener("click", verbs.toggle);
    this.draw();
  }

  /** Somebody publishes, or not. */
  setLive(on: boolean): void {
    this.live.disabled = !on;
  }

  draw(): void {
    const { screen } = this;
    const playing = screen.isPlaying();
    reface(this.play, playing ? "pause" : "play", playing ? words.player.pause : words.player.play);
    const { muted } = screen.player.video;
    reface(this.sound, muted ? "silent" : "sound", muted ? words.player.unmute : words.player.mute);
    this.sound.hidden = !screen.canPlay();
    const at = screen.position();
    const mode = screen.mode();
    this.time.textContent = at === undefined ? "" : mode === "still" ? zone.fine(at) : zone.clock(at);
    this.time.title = at === undefined ? "" : zone.time(at);
    const old = at !== undefined && zone.day(at) !== zone.day(serverNow()) ? `${zone.shortDay(at)} · ` : "";
    this.what.textContent = mode === "nothing" ? "" : old + this.name();
    this.live.classList.toggle("on", screen.isLive());
    this.live.setAttribute("aria-pressed", String(screen.isLive()));
    this.element.dataset["mode"] = mode;
    this.drawOver();
  }

  private drawOver(): void {
    const { player } = this.screen;
    const live = this.screen.mode() === "live";
    this.over.hidden = !live;
    this.over.disabled = !player.canPlay();
    if (!live) return;
    const over = player.over();
    const reason = player.reason();
    const why = over === "webrtc" ? words.over.isWebrtc(player.silentCodec(), player.canPlay()) : words.over.isHls(reason);
    if (this.over.dataset["over"] !== over || this.over.title !== why) {
      this.overName.textContent = words.over[over];
      this.over.title = why;
      this.overWhy.textContent = `. ${why}`;
      this.overSaid.textContent = reason === "" ? words.over[over] : why;
      this.over.dataset["over"] = over;
      this.lateAt = 0;
    }
    const now = performance.now();
    if (now - this.lateAt < lateEveryMs) return;
    const late = player.lateMs();
    this.lateAt = late === undefined ? 0 : now;
    this.late.textContent = late === undefined ? "" : words.over.late(show.seconds(late));
    if (late === undefined) delete this.over.dataset["late"];
    else this.over.dataset["late"] = String(Math.round(late));
  }

  mute(): void {
    const { video } = this.screen.player;
    video.muted = !video.muted;
  }

  full(): void {
    const theatre = this.element.parentElement!;
    if (document.fullscreenElement !== null) void document.exitFullscreen();
    else void theatre.requestFullscreen?.().catch(() => undefined);
  }

  private name(): string {
    const { screen } = this;
    // The live button says it already.
    if (screen.isLive()) return "";
    if (screen.mode() === "slides") return words.player.isSlides(screen.rate());
    return screen.mode() === "still" ? words.player.isStill : words.player.isPast;
  }

  private keys(): void {
    const list = words.player.keyList.flatMap(([keys, meaning]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, meaning)]);
    openDialog(words.player.keys, new AbortController().signal, () => [el("dl", { class: "facts keys" }, ...list)]);
  }
}

