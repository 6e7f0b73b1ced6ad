// What happened lately, the newest first.

import type { Happening } from "../../api";
import { el } from "../../dom";
import { words } from "../../words";
import * as zone from "../../zone";

export class EventsCard {
  private readonly list = el("ol", { class: "events", tabindex: 0, "aria-label": words.server.events });
  private newest: number | undefined = -1;
  readonly element = el("section", { class: "card" }, el("h2", {}, words.server.events), this.list);

  draw(events: Happening[]): void {
    const newest = events[0]?.id;
    if (newest === this.newest) return;
    this.newest = newest;
    this.list.replaceChildren(...(events.length === 0 ? [el("li", { class: "soft" }, words.server.noEvents)] : events.map(line)));
  }
}

function line(event: Happening): HTMLElement {
  const what = words.server.kinds[event.type] ?? event.type;
  const more = event.state === undefined ? "" : ` ${words.server.diskStates[event.state] ?? event.state}`;
  return el(
    "li",
    { class: event.type },
    el("time", { datetime: event.at, class: "number soft", title: zone.time(Date.parse(event.at)) }, zone.near(Date.parse(event.at))),
    el("span", {}, what + more),
    event.stream === undefined ? null : el("a", { href: `#/stream/${event.stream}` }, event.stream),
  );
}
