// What stands under the timeline: zoom, shown span, date picker, jump to live.

import { serverNow } from "../../clock";
import { el } from "../../dom";
import { iconButton } from "../../icons";
import type { TimelineBar } from "../../timeline/bar";
import { words } from "../../words";
import * as zone from "../../zone";

const spans = {
  minute: 60_000,
  ten: 600_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 604_800_000,
  month: 2_678_400_000,
} as const;

export interface Jumps {
  jump(at: number): void;
  goLive(): void;
}

export class TimelineTools {
  readonly element: HTMLElement;

  constructor(timeline: TimelineBar, { jump }: Jumps) {
    const when = el("input", { type: "datetime-local", step: 1, "aria-label": words.stream.at, id: "go-to" });
    const go = el(
      "form",
      {
        class: "go-to",
        submit: (event) => {
          event.preventDefault();
          const at = zone.fromInput(when.value);
          if (at !== undefined) jump(at);
        },
      },
      when,
      el("button", { type: "submit", class: "quiet" }, words.stream.at),
    );
    when.value = zone.toInput(serverNow());
    const show = (length: number) => (): void => {
      const { from, to } = timeline.shown();
      const now = serverNow();
      // What ends now goes on ending now.
      if (to >= now) timeline.show(now, length, 0.9);
      else timeline.show((from + to) / 2, length);
    };
    const presets = Object.entries(spans).map(([name, length]) =>
      el("button", { type: "button", class: "quiet", click: show(length) }, words.stream.spans[name as keyof typeof spans]),
    );
    this.element = el(
      "div",
      { class: "tools" },
      el("div", { class: "group", role: "group", "aria-label": words.stream.spanLabel }, ...presets),
      el(
        "div",
        { class: "group", role: "group", "aria-label": words.stream.moving },
        iconButton("left", words.stream.earlier, () => timeline.pan(-0.5)),
        iconButton("minus", words.stream.zoomOut, () => timeline.zoom(2)),
        iconButton("plus", words.stream.zoomIn, () => timeline.zoom(0.5)),
        iconButton("right", words.stream.later, () => timeline.pan(0.5)),
      ),
      go,
    );
  }
}
