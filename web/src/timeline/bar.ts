// The timeline as people use it: drag to scrub, drag the ruler or turn the wheel to move, wheel or pinch to zoom, keys.

import { serverNow } from "../clock";
import { el } from "../dom";
import { themeChanged } from "../theme";
import { words } from "../words";
import * as zone from "../zone";
import { HoverCard } from "./hover";
import { colours, paint, rulerHeight, type Colours } from "./paint";
import { Recorded, type Piece } from "./recorded";
import { around, moved, span, spanMax, zoomed, type View } from "./view";

export interface Listeners {
  /** The pointer moves over the recording with the button down. */
  scrub(at: number): void;
  /** It was let go there. */
  settle(at: number): void;
  /** The selected range changed. */
  selected(range: Piece | undefined): void;
}

/** What a pointer that is down does. */
type Grip = "scrub" | "pan" | "select" | "start" | "end";

/** Pixels from a handle at which it is still taken. */
const handleReach = 9;
const stepZoom = 2;

export class TimelineBar {
  private readonly canvas = el("canvas", { class: "strip" });
  readonly bar = el(
    "div",
    { class: "timeline", role: "slider", tabindex: 0, "aria-label": words.stream.timeline, "aria-describedby": "timeline-help" },
    this.canvas,
  );
  private readonly hover: HoverCard;
  readonly element: HTMLElement;
  readonly recorded: Recorded;
  private view: View = around(serverNow(), 3_600_000, 0.9);
  private colour: Colours | undefined;
  private playhead: number | undefined;
  private live = false;
  private pointed: number | undefined;
  private range: Piece | undefined;
  private following = true;
  private grip: Grip | undefined;
  private selecting = false;
  private anchor = 0;
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private drawing = false;

  constructor(
    name: string,
    signal: AbortSignal,
    private readonly listeners: Listeners,
  ) {
    this.recorded = new Recorded(name, signal, () => this.draw());
    this.hover = new HoverCard(name);
    this.element = el(
      "div",
      { class: "timeline-box" },
      this.hover.element,
      this.bar,
      el("p", { class: "unseen", id: "timeline-help" }, words.stream.timelineHelp),
    );
    this.listen();
    const resize = new ResizeObserver(() => this.draw());
    resize.observe(this.canvas);
    const recolour = (): void => {
      this.colour = undefined;
      this.draw();
    };
    themeChanged.addEventListener("change", recolour, { signal });
    signal.addEventListener("abort", () => {
      resize.disconnect();
      this.hover.stop();
    });
  }

  /** Shows `length` of time with `at` in it. */
  show(at: number, length: number, share = 0.5): void {
    this.view = around(at, Math.min(length, spanMax), share);
    this.following = true;
    this.draw();
  }

  shown(): View {
    return this.view;
  }

  /** Shows `factor` times as much time, around the playhead when it is to be seen. */
  zoom(factor: number): void {
    const { playhead, view } = this;
    const inside = playhead !== undefined && playhead >= view.from && playhead <= view.to;
    this.change(zoomed(view, factor, inside ? playhead : (view.from + view.to) / 2));
  }

  /** Moves by a share of what is shown. */
  pan(share: number): void {
    this.change(moved(this.view, span(this.view) * share));
  }

  /** Puts the playhead there, and follows it when the viewer did not look elsewhere. */
  place(at: number | undefined, live: boolean): void {
    this.setPlayhead(at, live);
    if (at !== undefined) {
      const share = (at - this.view.from) / span(this.view);
      if (this.following && this.grip === undefined && (share > 0.96 || share < 0)) {
        this.view = around(at, span(this.view), share > 1.2 || share < 0 ? 0.5 : 0.9);
      }
    }
    this.draw();
  }

  /** The next drag over the recording selects a range. */
  selectNext(on: boolean): void {
    this.selecting = on;
    this.bar.classList.toggle("selecting", on);
  }

  select(range: Piece | undefined): void {
    this.range = range;
    this.draw();
  }

  private setPlayhead(at: number | undefined, live: boolean): void {
    this.playhead = at;
    this.live = live;
    if (at === undefined) return;
    this.bar.setAttribute("aria-valuenow", String(Math.round(at)));
    this.bar.setAttribute("aria-valuetext", zone.time(at));
  }

  private change(view: View): void {
    this.view = view;
    this.following = this.playhead !== undefined && this.playhead >= view.from && this.playhead <= view.to;
    this.draw();
  }

  private draw(): void {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      const { view } = this;
      this.recorded.see(view, this.canvas.clientWidth);
      this.colour ??= colours(this.bar);
      this.bar.setAttribute("aria-valuemin", String(Math.round(view.from)));
      this.bar.setAttribute("aria-valuemax", String(Math.round(view.to)));
      if (this.playhead === undefined) this.bar.setAttribute("aria-valuenow", String(Math.round(view.to)));
      this.bar.classList.toggle("loading", !this.recorded.knows(view));
      const { range: selection, playhead, live, pointed: hover } = this;
      const [spans, gaps, known] = [this.recorded.spans(view), this.recorded.gaps(view), this.recorded.knows(view)];
      paint(this.canvas, { view, spans, gaps, known, selection, playhead, live, hover }, this.colour);
      // For whoever looks at the page by program: what is drawn, in words.
      this.bar.dataset["spans"] = String(spans.filter((piece) => piece.to > view.from && piece.from < view.to).length);
      this.bar.dataset["from"] = String(view.from);
      this.bar.dataset["to"] = String(view.to);
    });
  }

  private at(clientX: number): number {
    const box = this.canvas.getBoundingClientRect();
    return this.view.from + ((clientX - box.left) / box.width) * span(this.view);
  }

  private x(at: number): number {
    return ((at - this.view.from) / span(this.view)) * this.canvas.clientWidth;
  }

  private listen(): void {
    const { bar } = this;
    bar.addEventListener("pointerdown", (event) => this.down(event));
    bar.addEventListener("pointermove", (event) => this.move(event));
    bar.addEventListener("pointerup", (event) => this.up(event));
    bar.addEventListener("pointercancel", (event) => this.up(event));
    bar.addEventListener("pointerleave", () => this.point(undefined));
    bar.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    bar.addEventListener("keydown", (event) => this.key(event));
  }

  private down(event: PointerEvent): void {
    if (event.button !== 0) return;
    event.preventDefault();
    // The keyboard goes on from here, but only who uses it is shown where it is.
    this.bar.classList.add("by-pointer");
    this.bar.focus({ preventScroll: true });
    this.bar.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size > 1) {
      this.grip = "pan";
      return;
    }
    const box = this.canvas.getBoundingClientRect();
    const [x, at] = [event.clientX - box.left, this.at(event.clientX)];
    const near = (edge: number): boolean => Math.abs(this.x(edge) - x) <= handleReach;
    if (event.clientY - box.top < rulerHeight) this.grip = "pan";
    else if (this.range !== undefined && near(this.range.to)) this.grip = "end";
    else if (this.range !== undefined && near(this.range.from)) this.grip = "start";
    else if (this.selecting) [this.grip, this.anchor] = ["select", at];
    else this.grip = "scrub";
    this.bar.classList.toggle("panning", this.grip === "pan");
    if (this.grip === "scrub") this.scrub(event);
  }

  private move(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    const at = this.at(event.clientX);
    if (before === undefined || this.grip === undefined) {
      if (event.pointerType === "mouse") this.point(event.clientX);
      return;
    }
    this.point(undefined);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const [other] = others;
    if (other !== undefined) {
      const [old, now] = [Math.abs(before.x - other.x), Math.abs(event.clientX - other.x)];
      const centre = this.at((event.clientX + other.x) / 2);
      const shift = ((before.x - event.clientX) / 2 / this.canvas.clientWidth) * span(this.view);
      this.change(moved(zoomed(this.view, Math.max(10, old) / Math.max(10, now), centre), shift));
      return;
    }
    if (this.grip === "pan") {
      this.change(moved(this.view, ((before.x - event.clientX) / this.canvas.clientWidth) * span(this.view)));
    } else if (this.grip === "scrub") this.scrub(event);
    else {
      const fixed = this.grip === "select" ? this.anchor : this.grip === "start" ? this.range!.to : this.range!.from;
      if (this.grip !== "select" && (this.grip === "start") !== at < fixed) this.grip = this.grip === "start" ? "end" : "start";
      this.setRange({ from: Math.min(at, fixed), to: Math.max(at, fixed) });
    }
  }

  private up(event: PointerEvent): void {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size > 0) return;
    const { grip } = this;
    this.grip = undefined;
    this.bar.classList.remove("panning");
    if (grip === "scrub" && event.type === "pointerup") {
      const at = this.within(this.at(event.clientX));
      this.bar.dataset["wished"] = String(at);
      this.listeners.settle(at);
    }
    if (grip === "select") this.selectNext(false);
  }

  private scrub(event: PointerEvent): void {
    const at = this.within(this.at(event.clientX));
    this.setPlayhead(at, false);
    this.bar.dataset["wished"] = String(at);
    this.listeners.scrub(at);
    this.draw();
  }

  private within = (at: number): number => Math.min(Math.max(at, this.view.from), Math.min(this.view.to, serverNow()));

  private setRange(range: Piece): void {
    this.range = range;
    this.listeners.selected(range);
    this.draw();
  }

  /** Shows the time, and the picture or the gap, under the pointer. */
  private point(clientX: number | undefined): void {
    const at = clientX === undefined ? undefined : this.at(clientX);
    if (at === this.pointed) return;
    this.pointed = at;
    this.draw();
    if (at === undefined || clientX === undefined) return this.hover.hide();
    const box = this.canvas.getBoundingClientRect();
    const beside = span(this.view) / box.width;
    const recorded = this.recorded.isRecorded(at, this.view) || this.recorded.isRecorded(at + beside, this.view);
    this.hover.show(at, clientX - box.left, box.width, recorded, this.recorded.reason(at, this.view), beside);
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      this.change(moved(this.view, ((sideways * unit) / this.canvas.clientWidth) * span(this.view)));
    } else {
      const factor = Math.exp(Math.max(-1, Math.min(1, event.deltaY * unit * 0.0025)));
      this.change(zoomed(this.view, factor, this.at(event.clientX)));
    }
    this.point(event.clientX);
  }

  /** Keys that mean the timeline itself; those of the player are the page's. */
  private key(event: KeyboardEvent): void {
    this.bar.classList.remove("by-pointer");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowUp" || event.key === "+" || event.key === "=") this.zoom(1 / stepZoom);
    else if (event.key === "ArrowDown" || event.key === "-") this.zoom(stepZoom);
    else if (event.key === "PageUp") this.pan(-0.5);
    else if (event.key === "PageDown") this.pan(0.5);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
