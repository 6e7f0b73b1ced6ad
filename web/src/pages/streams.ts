// All streams as cards with their newest pictures, refreshed every two seconds.

import { api, type Stream } from "../api";
import { el } from "../dom";
import { icon } from "../icons";
import { Thumbnails } from "../thumbnails";
import { words } from "../words";
import type { Page } from "./page";
import { poll } from "./poll";
import { Card } from "./streams/card";
import { editStream } from "./streams/form";
import { showPush } from "./streams/push";

const refreshMs = 2000;

export function streamsPage(page: Page): void {
  const { root, signal } = page;
  const problem = el("p", { class: "problem", role: "status" });
  const summary = el("p", { class: "soft summary" });
  const grid = el("ul", { class: "grid" });
  const empty = el("div", { class: "empty card", hidden: true });
  const more = el("button", { type: "button", class: "quiet more", hidden: true }, words.streams.more);
  const search = el("input", { type: "search", "aria-label": words.streams.search, placeholder: words.streams.search });
  const create = (): HTMLButtonElement =>
    el("button", { type: "button", class: "main", click: () => editStream(signal, undefined, made) }, icon("plus"), words.streams.create);
  const here = (): HTMLElement => el("a", { href: "#/publish", class: "button quiet" }, icon("air"), words.publish.open);
  root.append(
    el("div", { class: "bar" }, el("h1", {}, words.streams.title), summary, el("div", { class: "bar-end" }, search, here(), create())),
    problem,
    grid,
    empty,
    more,
  );
  const thumbnails = new Thumbnails(signal);
  const cards = new Map<string, Card>();
  let pages = 1;
  let latest = 0;
  grid.append(...Array.from({ length: 3 }, () => el("li", { class: "card tile ghost", "aria-hidden": "true" })));

  const draw = (streams: Stream[], whole: boolean): void => {
    for (const [name, card] of cards) {
      if (streams.some((stream) => stream.name === name)) continue;
      thumbnails.remove(card.image);
      cards.delete(name);
    }
    const elements = streams.map((stream) => {
      let card = cards.get(stream.name);
      if (card === undefined) {
        card = new Card(stream.name);
        cards.set(stream.name, card);
        thumbnails.add(stream.name, card.image);
      }
      card.draw(stream);
      const pictures = stream.last_time !== null && stream.tracks.some((track) => track.width !== undefined);
      thumbnails.set(card.image, pictures, stream.state === "live");
      return card.element;
    });
    // Elements that stay are not moved: the focus stays where it is.
    const now = [...grid.children];
    if (elements.length !== now.length || elements.some((element, at) => element !== now[at])) grid.replaceChildren(...elements);
    const live = streams.filter((stream) => stream.state === "live").length;
    const text = whole ? words.streams.count(streams.length, live) : words.streams.atLeast(streams.length, live);
    summary.textContent = streams.length === 0 ? "" : text;
  };

  const refresh = async (): Promise<void> => {
    const mine = (latest += 1);
    const text = search.value.trim();
    const streams: Stream[] = [];
    let cursor: string | undefined;
    for (let count = 0; count < pages; count += 1) {
      const answer = await api.streams(text, cursor, signal);
      streams.push(...answer.streams);
      cursor = answer.cursor;
      if (cursor === undefined) break;
    }
    if (mine !== latest) return;
    more.hidden = cursor === undefined;
    draw(streams, cursor === undefined && text === "");
    const nothing = streams.length > 0 ? "" : text === "" ? "none" : `not ${text}`;
    if (empty.dataset["shows"] !== nothing) {
      empty.dataset["shows"] = nothing;
      empty.hidden = nothing === "";
      const first = [icon("camera"), el("h2", {}, words.streams.empty), el("p", { class: "soft" }, words.streams.emptyHow), el("div", { class: "actions" }, here(), create())];
      empty.replaceChildren(...(text === "" ? first : [el("p", {}, words.streams.nothingFound(text))]));
    }
  };
  const now = (): void => void refresh().catch(() => undefined);
  const made = (stream: Stream): void => {
    now();
    showPush(signal, stream.name);
  };
  search.addEventListener("input", now);
  more.addEventListener("click", () => {
    pages += 1;
    now();
  });
  void poll(page, refreshMs, refresh, (text) => (problem.textContent = text));
}
