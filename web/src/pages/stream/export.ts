// Takes a range of the recording away: as one clip, or as pictures.

import { Refused, api, isAbort, send } from "../../api";
import { clipPath, withToken, type Range } from "../../addresses";
import { el } from "../../dom";
import { icon } from "../../icons";
import * as show from "../../show";
import { token } from "../../session";
import type { TimelineBar } from "../../timeline/bar";
import { choice, field } from "../../widgets/field";
import { words } from "../../words";
import * as zone from "../../zone";
import { sentence } from "../poll";
import { picturesMax, savePictures, save, stepMs, type Taken } from "./take";

export class ExportCard {
  private readonly from = el("input", { type: "datetime-local", step: 1 });
  private readonly to = el("input", { type: "datetime-local", step: 1 });
  private readonly length = el("span", { class: "number" });
  private readonly said = el("p", { class: "said", role: "status" });
  private readonly mark: HTMLButtonElement;
  private readonly every = choice(words.take.steps, "1s");
  private readonly clip = el("button", { type: "button", class: "main", disabled: true }, icon("save"), words.take.clip);
  private readonly pictures = el("button", { type: "button", class: "quiet", disabled: true }, icon("save"), words.take.pictures);
  private readonly clear = el("button", { type: "button", class: "quiet" }, words.take.clear);
  private marked: Range | undefined;
  private loading: AbortController | undefined;
  readonly element: HTMLElement;

  constructor(
    private readonly name: string,
    private readonly signal: AbortSignal,
    private readonly timeline: TimelineBar,
    private readonly position: () => number | undefined,
  ) {
    this.mark = el("button", { type: "button", class: "quiet" }, words.take.mark);
    this.mark.addEventListener("click", () => {
      this.mark.textContent = words.take.marking;
      timeline.selectNext(true);
    });
    this.clear.addEventListener("click", () => {
      this.setRange(undefined);
      timeline.select(undefined);
    });
    for (const input of [this.from, this.to]) input.addEventListener("change", () => this.read());
    this.clip.addEventListener("click", () => void this.saveClip());
    this.pictures.addEventListener("click", () => void this.savePictures());
    signal.addEventListener("abort", () => this.loading?.abort());
    this.element = el(
      "section",
      { class: "card" },
      el("h2", {}, words.take.title),
      el("p", { class: "hint" }, words.take.how),
      el("div", { class: "actions start" }, this.mark, this.clear, this.length),
      el("div", { class: "two" }, field(words.take.from, this.from), field(words.take.to, this.to)),
      el("div", { class: "actions start" }, this.clip),
      field(words.take.every, this.every, undefined, this.pictures),
      this.said,
    );
    this.setRange(undefined);
  }

  range(): Range | undefined {
    return this.marked;
  }

  /** The range was marked, or taken away, on the timeline. */
  setRange(range: Range | undefined): void {
    this.marked = range;
    this.mark.textContent = words.take.mark;
    this.from.value = range === undefined ? "" : zone.toInput(range.from);
    this.to.value = range === undefined ? "" : zone.toInput(range.to);
    this.draw();
  }

  /** Puts an end of the range to the shown picture; the other one stays where that makes a range. */
  markHere(end: "from" | "to"): void {
    const at = this.position();
    if (at === undefined) return;
    const { from, to } = this.marked ?? { from: at - 10_000, to: at + 10_000 };
    const range = end === "from" ? { from: at, to: to > at ? to : at + 10_000 } : { from: from < at ? from : at - 10_000, to: at };
    this.setRange(range);
    this.timeline.select(range);
  }

  private read(): void {
    const [from, to] = [zone.fromInput(this.from.value), zone.fromInput(this.to.value)];
    if (from === undefined || to === undefined) return;
    const range = from < to ? { from, to } : undefined;
    this.marked = range;
    this.timeline.select(range);
    this.draw();
    if (range === undefined) this.said.textContent = words.take.wrong;
  }

  private draw(): void {
    const range = this.marked;
    this.length.textContent = range === undefined ? "" : words.take.length(show.duration(range.to - range.from));
    this.clip.disabled = this.pictures.disabled = range === undefined;
    this.clear.hidden = range === undefined;
    this.said.textContent = "";
  }

  private async saveClip(): Promise<void> {
    const range = this.marked;
    if (range === undefined) return;
    try {
      // A look first: a refusal is said here, and not on a page of its own.
      await (await send("GET", clipPath(this.name, range), this.signal)).body?.cancel();
      const mint = async (): Promise<string> => {
        const reach = await api.wholeFragments(this.name, range.from, range.to);
        const label = words.links.clipLabel(this.name);
        return (await api.mintToken({ streams: this.name, playback: true, ...reach, expires_in: "1h", label })).token;
      };
      // Who may not make tokens may hold one that plays.
      const key = await mint().catch(() => token() ?? "");
      save(withToken(clipPath(this.name, range), key), `${this.name}.mp4`);
      this.said.textContent = words.take.started;
    } catch (error) {
      this.tell(error);
    }
  }

  private async savePictures(): Promise<void> {
    const range = this.marked;
    if (this.loading !== undefined) return this.loading.abort();
    if (range === undefined) return;
    const step = stepMs(this.every.value);
    if (step !== undefined && (range.to - range.from) / step > picturesMax) {
      this.said.textContent = words.take.tooMany(picturesMax);
      return;
    }
    this.loading = new AbortController();
    this.pictures.lastChild!.textContent = words.take.stop;
    try {
      const taken = await savePictures(this.name, range, this.every.value, this.loading.signal, (seen) => {
        this.said.textContent = words.take.loading(seen);
      });
      this.said.textContent = told(taken);
    } catch (error) {
      if (isAbort(error)) this.said.textContent = "";
      else this.tell(error);
    } finally {
      this.loading = undefined;
      this.pictures.lastChild!.textContent = words.take.pictures;
    }
  }

  private tell(error: unknown): void {
    if (isAbort(error)) return;
    const missing = error instanceof Refused && (error.status === 404 || error.status === 405 || error.status === 501);
    const none = error instanceof Refused && (error.code === "no_media" || error.code === "media_gone");
    this.said.textContent = none ? words.player.nothing : missing ? words.take.notYet : sentence(error);
  }
}

/** How many pictures were saved, how many are missing, and why. */
function told({ count, missing, isCut }: Taken): string {
  const why = [...new Set(missing.map((one) => one.why))].join("; ");
  if (missing.length === 0) return count === 0 ? words.take.none : isCut ? words.take.cut(count) : words.take.done(count);
  if (count === 0) return words.take.allMissing(missing.length, why);
  return `${isCut ? words.take.cut(count) : words.take.done(count)} ${words.take.missing(missing.length, why)}`;
}
