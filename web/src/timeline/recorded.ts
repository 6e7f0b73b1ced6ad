// What was recorded around the part of time that is shown: asked for in two layers, and kept.
//
// The near layer is three times what is shown, as fine as its pixels. The far layer is two months, as coarse as ten
// minutes: it is drawn until the near one is there, and knows the reason of a gap that is longer than what is shown.

import { serverNow } from "../clock";
import { api, isAbort, type Gap } from "../api";
import { span, spanMax, type View } from "./view";

export interface Piece {
  from: number;
  to: number;
}

export interface Hole extends Piece {
  reason: string;
}

interface Layer extends View {
  resolution: number;
  asked: number;
  spans: Piece[];
  gaps: Hole[];
}

const farResolution = 600_000;
/** A shorter hole is between two pictures. */
const finest = 50;
/** How old the near and the far layer's answer about the newest media may be. */
const freshMs = 15_000;
const farFreshMs = 120_000;

export class Recorded {
  private near: Layer | undefined;
  private far: Layer | undefined;
  private asking: { abort: AbortController; wanted: View; resolution: number } | undefined;
  private askingFar = false;
  private end = 0;

  constructor(
    private readonly name: string,
    private readonly signal: AbortSignal,
    private readonly changed: () => void,
  ) {
    signal.addEventListener("abort", () => this.asking?.abort.abort());
  }

  /** The stream was recorded until this time; `since` when its publisher came, none when nobody publishes. */
  extend(last: number, since: number | undefined): void {
    this.end = last;
    if (since === undefined) return;
    for (const layer of [this.near, this.far]) {
      const newest = layer?.spans.at(-1);
      if (layer === undefined || newest === undefined) continue;
      // Only what surely has no hole: the span reaches into the present publisher's time.
      if (newest.to > since && newest.to < last && last <= layer.to) newest.to = last;
    }
  }

  /** Sees to it that what is shown is known, soon. */
  see(view: View, width: number): void {
    const resolution = Math.max(finest, Math.round(span(view) / Math.max(200, width)));
    if (!this.covers(this.far, view, farResolution)) void this.askFar(view);
    if (resolution >= farResolution || this.covers(this.near, view, resolution)) return;
    if (this.asking !== undefined && fits(this.asking.wanted, this.asking.resolution, view, resolution)) return;
    void this.askNear(view, resolution);
  }

  /** Spans to draw, in order of time. */
  spans(view: View): Piece[] {
    return this.best(view)?.spans ?? [];
  }

  gaps(view: View): Hole[] {
    return this.best(view)?.gaps ?? [];
  }

  isRecorded(at: number, view: View): boolean {
    return this.spans(view).some((piece) => piece.from <= at && at < piece.to);
  }

  /** Why nothing is recorded at a time; none when something is, or nobody knows. */
  reason(at: number, view: View): string | undefined {
    if (this.isRecorded(at, view)) return undefined;
    for (const layer of [this.near, this.far]) {
      const gap = layer?.gaps.find((one) => one.from <= at && at < one.to);
      if (gap !== undefined) return gap.reason;
    }
    return undefined;
  }

  /** Whether anything is known about this part of time yet. */
  knows(view: View): boolean {
    return this.best(view) !== undefined;
  }

  private best(view: View): Layer | undefined {
    const { near, far } = this;
    if (near !== undefined && near.from <= view.from && (near.to >= view.to || near.to >= this.end)) return near;
    return far ?? near;
  }

  private covers(layer: Layer | undefined, view: View, resolution: number): boolean {
    if (layer === undefined || !fits(layer, layer.resolution, view, resolution)) return false;
    return view.to < layer.asked || serverNow() - layer.asked < (layer === this.far ? farFreshMs : freshMs);
  }

  private async askNear(view: View, resolution: number): Promise<void> {
    this.asking?.abort.abort();
    const abort = new AbortController();
    const wanted = { from: Math.max(0, view.from - span(view)), to: view.to + span(view) };
    const mine = { abort, wanted, resolution };
    this.asking = mine;
    try {
      this.near = await this.ask(wanted, resolution, abort.signal);
    } catch (error) {
      // The page's own poll says what is wrong with the server; this is asked again with the next change.
      if (!isAbort(error)) await new Promise((done) => setTimeout(done, 2000));
    } finally {
      if (this.asking === mine) this.asking = undefined;
      this.changed();
    }
  }

  private async askFar(view: View): Promise<void> {
    if (this.askingFar) return;
    this.askingFar = true;
    const middle = (view.from + view.to) / 2;
    try {
      const wanted = { from: Math.max(0, middle - spanMax), to: middle + spanMax };
      this.far = await this.ask(wanted, farResolution, this.signal);
    } catch (error) {
      if (!isAbort(error)) await new Promise((done) => setTimeout(done, 2000));
    } finally {
      this.askingFar = false;
      this.changed();
    }
  }

  private async ask(wanted: View, resolution: number, signal: AbortSignal): Promise<Layer> {
    const asked = serverNow();
    const found = await api.timeline(this.name, wanted.from, wanted.to, resolution, signal);
    const piece = ({ from, to }: { from: string; to: string }): Piece => ({ from: Date.parse(from), to: Date.parse(to) });
    const spans = found.spans.map(piece).sort((a, b) => a.from - b.from);
    const gaps = found.gaps.map((gap: Gap) => ({ ...piece(gap), reason: gap.reason }));
    return { ...wanted, resolution, asked, spans, gaps };
  }
}

function fits(have: View, resolution: number, view: View, wanted: number): boolean {
  return have.from <= view.from && have.to >= view.to && resolution <= wanted * 1.5;
}
