// The player's controls, and what it shows: live, a recording, a picture.

import { el } from "../../dom";
import { iconButton, reface } from "../../icons";
import type { Screen } from "../../screen";
import { openDialog } from "../../widgets/dialog";
import { words } from "../../words";
import * as zone from "../../zone";

const leapMs = 10_000;

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
  readonly element: HTMLElement;

  constructor(
    private readonly screen: Screen,
    verbs: Verbs,
  ) {
    this.play = iconButton("play", words.player.play, verbs.toggle, "ghosty");
    this.sound = iconButton("silent", words.player.unmute, () => this.mute(), "ghosty");
    this.live = el("button", { type: "button", class: "ghosty go-live", title: words.player.liveHint, click: verbs.goLive }, words.player.goLive);
    this.element = el(
      "div",
      { class: "controls", role: "group", "aria-label": words.player.controls },
      this.play,
      iconButton("back", words.player.back, () => verbs.step(-leapMs), "ghosty"),
      iconButton("ahead", words.player.ahead, () => verbs.step(leapMs), "ghosty"),
      this.live,
      el("span", { class: "reading" }, this.time, this.what),
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
    const old = at !== undefined && zone.day(at) !== zone.day(Date.now()) ? `${zone.shortDay(at)} · ` : "";
    this.what.textContent = mode === "nothing" ? "" : old + this.name();
    this.live.classList.toggle("on", screen.isLive());
    this.live.setAttribute("aria-pressed", String(screen.isLive()));
    this.element.dataset["mode"] = mode;
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

