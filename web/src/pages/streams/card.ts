// One stream in the grid: its newest picture, state and figures. The whole card leads to the stream.

import type { Stream } from "../../api";
import { el } from "../../dom";
import { icon } from "../../icons";
import * as show from "../../show";
import { words } from "../../words";
import * as zone from "../../zone";

export class Card {
  readonly image: HTMLImageElement;
  private readonly state = el("span", { class: "state" });
  private readonly since = el("span", { class: "soft" });
  private readonly format = el("span");
  private readonly rate = el("span", { class: "number" });
  private readonly viewers = el("span", { class: "number" });
  private readonly stored = el("span", { class: "number" });
  readonly element: HTMLElement;

  constructor(name: string) {
    this.image = el("img", { alt: words.streams.picture(name), hidden: true });
    this.element = el(
      "li",
      { class: "card tile" },
      el("div", { class: "tile-picture" }, icon("camera"), this.image, this.state),
      el(
        "div",
        { class: "tile-text" },
        el("a", { href: `#/stream/${name}`, class: "tile-name" }, name),
        this.since,
        el("div", { class: "tile-facts" }, this.format, this.rate, this.viewers, this.stored),
      ),
    );
  }

  draw(stream: Stream): void {
    const live = stream.state === "live";
    this.state.textContent = live ? words.streams.live : words.streams.idle;
    this.state.classList.toggle("live", live);
    this.since.textContent = since(stream);
    this.format.textContent = format(stream);
    this.rate.textContent = live ? show.bitrate(stream.bitrate) : "";
    this.viewers.textContent = stream.viewers > 0 ? words.streams.viewers(stream.viewers) : "";
    this.stored.textContent = stream.bytes > 0 ? show.bytes(stream.bytes) : "";
  }
}

/** Since when it is live, or since when no more. */
export function since(stream: Stream): string {
  if (stream.publisher !== null) return words.streams.liveSince(zone.near(Date.parse(stream.publisher.since)));
  if (stream.last_time === null) return words.streams.never;
  return words.streams.idleSince(zone.near(Date.parse(stream.last_time)));
}

/** "H.264 1280×720", or that there is sound alone. */
export function format(stream: Stream): string {
  const video = stream.tracks.find((track) => track.width !== undefined);
  if (video !== undefined) return `${show.codec(video.codec)} ${video.width}×${video.height}`;
  return stream.tracks.length > 0 ? words.streams.soundOnly : "";
}
