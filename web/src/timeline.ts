// A bar of what was recorded: spans filled, gaps empty with their reason, a mark where the player is.

import type { Timeline } from "./api";
import { el } from "./dom";
import * as show from "./show";
import { words } from "./words";

export class TimelineBar {
  private readonly bar = el("div", { class: "timeline", role: "slider", tabindex: 0, "aria-label": words.stream.timeline });
  private readonly filled = el("div", { class: "filled" });
  private readonly mark = el("div", { class: "mark", hidden: true });
  private readonly tip = el("output", { class: "tip" });
  private readonly start = el("span");
  private readonly end = el("span");
  private from = new Date(0);
  private to = new Date(1);
  private recorded: Timeline = { spans: [], gaps: [] };
  private position: Date | undefined;
  readonly element = el("div", {}, this.bar, el("div", { class: "scale" }, this.start, this.tip, this.end));

  constructor(private readonly picked: (time: Date) => void) {
    this.bar.append(this.filled, this.mark);
    this.bar.addEventListener("click", (event) => this.picked(this.timeAt(event.clientX)));
    this.bar.addEventListener("pointermove", (event) => this.describe(this.timeAt(event.clientX)));
    this.bar.addEventListener("pointerleave", () => (this.tip.textContent = ""));
    this.bar.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowLeft" ? -10_000 : event.key === "ArrowRight" ? 10_000 : 0;
      if (step === 0) return;
      event.preventDefault();
      this.picked(new Date((this.position ?? this.to).getTime() + step));
    });
  }

  draw(recorded: Timeline, from: Date, to: Date): void {
    this.recorded = recorded;
    this.from = from;
    this.to = to;
    this.start.textContent = show.timeBeside(from, to);
    this.end.textContent = show.timeBeside(to, from);
    this.bar.setAttribute("aria-valuemin", String(from.getTime()));
    this.bar.setAttribute("aria-valuemax", String(to.getTime()));
    this.filled.replaceChildren(
      ...recorded.spans.map((span) => {
        const start = this.share(new Date(span.from));
        const end = this.share(new Date(span.to));
        const piece = el("div", { class: "span" });
        piece.style.left = `${start * 100}%`;
        piece.style.width = `max(1px, ${(end - start) * 100}%)`;
        return piece;
      }),
    );
    this.show(this.position);
  }

  /** Moves the mark to `time`. */
  show(time: Date | undefined): void {
    this.position = time;
    const inside = time !== undefined && time >= this.from && time <= this.to;
    this.mark.hidden = !inside;
    if (!inside) return;
    this.mark.style.left = `${this.share(time) * 100}%`;
    this.bar.setAttribute("aria-valuenow", String(time.getTime()));
    this.bar.setAttribute("aria-valuetext", show.time(time));
  }

  private share(time: Date): number {
    const share = (time.getTime() - this.from.getTime()) / (this.to.getTime() - this.from.getTime());
    return Math.min(1, Math.max(0, share));
  }

  private timeAt(x: number): Date {
    const box = this.bar.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (x - box.left) / box.width));
    return new Date(this.from.getTime() + share * (this.to.getTime() - this.from.getTime()));
  }

  private describe(time: Date): void {
    const gap = this.recorded.gaps.find((gap) => time >= new Date(gap.from) && time < new Date(gap.to));
    this.tip.textContent = show.time(time) + (gap === undefined ? "" : ` · ${words.stream.gap(gap.reason)}`);
  }
}
