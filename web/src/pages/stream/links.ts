// Addresses for other programs, with a token that was made for them: this stream alone, playing alone, for a while.

import { api } from "../../api";
import { clipPath, hlsPath, picturePath, whepPath, withToken, type Range } from "../../addresses";
import { el } from "../../dom";
import { choice, field } from "../../widgets/field";
import { copyField } from "../../widgets/copy";
import { words } from "../../words";
import * as zone from "../../zone";
import { sentence } from "../poll";

export class LinksCard {
  readonly element: HTMLElement;

  constructor(name: string, signal: AbortSignal, range: () => Range | undefined, position: () => number | undefined) {
    const scope = choice({ live: words.links.live, range: words.links.range });
    const term = choice(words.links.terms, "24h");
    const made = el("div", { class: "made" });
    const problem = el("p", { class: "problem", role: "alert" });
    const make = el("button", { type: "submit", class: "main" }, words.links.make);
    const form = el(
      "form",
      {
        submit: (event) => {
          event.preventDefault();
          const marked = range();
          if (scope.value === "range" && marked === undefined) {
            problem.textContent = words.take.how;
            return;
          }
          const bounds = scope.value === "range" ? marked : undefined;
          make.disabled = true;
          problem.textContent = "";
          const mint = async () => {
            const reach = bounds === undefined ? {} : await api.wholeFragments(name, bounds.from, bounds.to);
            return api.mintToken({ label: words.links.label(name), streams: name, playback: true, expires_in: term.value, ...reach });
          };
          mint().then(
            ({ token, expires }) => {
              make.disabled = false;
              if (signal.aborted) return;
              const until = expires === null ? null : el("p", { class: "hint" }, words.links.madeUntil(zone.time(Date.parse(expires))));
              made.replaceChildren(...addresses(name, token, bounds, marked, position()));
              if (until !== null) made.append(until);
            },
            (error: unknown) => {
              make.disabled = false;
              problem.textContent = sentence(error);
            },
          );
        },
      },
      el("div", { class: "two" }, field(words.links.scope, scope), field(words.links.expires, term)),
      el("div", { class: "actions start" }, make),
    );
    this.element = el(
      "section",
      { class: "card" },
      el("h2", {}, words.links.title),
      el("p", { class: "hint" }, words.links.how),
      form,
      problem,
      made,
    );
  }
}

/** The addresses: of a range alone, or of everything, with the marked range and the shown picture among it. */
function addresses(name: string, token: string, bounds: Range | undefined, marked: Range | undefined, at: number | undefined): HTMLElement[] {
  const inside = at !== undefined && (bounds === undefined || (at >= bounds.from && at < bounds.to)) ? at : bounds?.from;
  const list: [string, string][] = [];
  if (bounds === undefined) list.push([words.links.hls, hlsPath(name)], [words.links.whep, whepPath(name)]);
  if (marked !== undefined) {
    list.push([words.links.hlsRange, hlsPath(name, marked.from, marked.to)], [words.links.clip, clipPath(name, marked)]);
  }
  // A range may begin in a gap.
  const pick = inside === at ? {} : ({ pick: "next" } as const);
  if (inside !== undefined) list.push([words.links.frame, picturePath(name, inside, pick)]);
  if (bounds === undefined) list.push([words.links.newest, picturePath(name, "latest")]);
  return list.map(([label, path]) => copyField(label, withToken(path, token)));
}
