// The card that stands over the timeline where the pointer is: time, and the picture of then or why there is none.

import { serverNow } from "../clock";
import { el } from "../dom";
import { Pictures } from "../pictures";
import { words } from "../words";
import * as zone from "../zone";

const width = 224;
/** A pointer that only passes by asks for nothing. */
const restMs = 60;

export class HoverCard {
  private readonly canvas = el("canvas", { width, height: (width * 9) / 16 });
  private readonly time = el("span", { class: "number" });
  private readonly why = el("span", { class: "soft" });
  readonly element = el("div", { class: "hover-card", hidden: true, "aria-hidden": "true" }, this.canvas, this.time, this.why);
  private readonly pictures: Pictures;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private drawn = false;

  constructor(name: string) {
    this.pictures = new Pictures(
      name,
      ({ bitmap }) => {
        this.canvas.height = Math.round((width * bitmap.height) / Math.max(1, bitmap.width));
        this.canvas.getContext("2d")?.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
        bitmap.close();
        this.drawn = true;
        this.canvas.hidden = false;
      },
      () => (this.canvas.hidden = true),
    );
  }

  /** Shows the card over `x` of a bar of `wide` pixels, each of which is `pixelMs` long. */
  show(at: number, x: number, wide: number, recorded: boolean, reason: string | undefined, pixelMs: number): void {
    this.element.hidden = false;
    this.time.textContent = pixelMs < 50 ? zone.fine(at) : zone.near(at);
    this.why.textContent = recorded ? "" : at > serverNow() ? words.stream.future : words.stream.gap(reason);
    this.why.hidden = recorded;
    this.canvas.hidden = !recorded || !this.drawn;
    const half = this.element.offsetWidth / 2;
    this.element.style.left = `${Math.min(Math.max(x, half), wide - half)}px`;
    clearTimeout(this.timer);
    if (!recorded) return;
    // Pictures of one pixel are the same to the eye: equal wishes are answered from memory.
    const rounded = Math.floor(at / Math.max(1, pixelMs)) * Math.max(1, pixelMs);
    this.timer = setTimeout(() => this.pictures.want(Math.round(rounded), { pick: "key", width }), restMs);
  }

  hide(): void {
    this.element.hidden = true;
    this.stop();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.pictures.clear();
  }
}
