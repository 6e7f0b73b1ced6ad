// The part of time that the timeline shows, from a second to a month, and where its ruler has marks. Pure.

import { serverNow } from "../clock";
import * as zone from "../zone";

export interface View {
  from: number;
  to: number;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

export const spanMin = second;
export const spanMax = 31 * day;

/** Nobody looks further than this into the future. */
const beyondNow = 0.5;

export const span = ({ from, to }: View): number => to - from;

function placed(from: number, length: number): View {
  const latest = serverNow() + beyondNow * length - length;
  const start = Math.max(0, Math.min(from, latest));
  return { from: start, to: start + length };
}

/** Shows `factor` times as much; what is at `around` stays there. */
export function zoomed(view: View, factor: number, around: number): View {
  const length = Math.min(spanMax, Math.max(spanMin, span(view) * factor));
  const share = (around - view.from) / span(view);
  return placed(around - share * length, length);
}

export const moved = (view: View, ms: number): View => placed(view.from + ms, span(view));

/** `length` of time, with `at` at this share of it. */
export const around = (at: number, length: number, share: number): View => placed(at - share * length, length);

export interface Mark {
  at: number;
  /** None on the small marks between. */
  label?: string;
  /** A new day begins here. */
  strong?: boolean;
}

const steps = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
].map((seconds) => seconds * second);
const daySteps = [1, 2, 7, 14];

/** Pixels that a label needs beside the next one. */
const labelWidth = 92;
const finestMarks = 5;

/** The ruler's marks for a bar of `width` pixels. */
export function marks(view: View, width: number): Mark[] {
  const wanted = (span(view) / Math.max(1, width)) * labelWidth;
  const step = steps.find((one) => one >= wanted);
  return step === undefined ? dayMarks(view, daySteps.find((days) => days * day >= wanted) ?? 14) : clockMarks(view, step);
}

function clockMarks(view: View, step: number): Mark[] {
  const found: Mark[] = [];
  // Days may have 23 or 25 hours: each is counted from its own midnight.
  for (let start = zone.midnight(view.from); start < view.to; start = zone.midnight(start, 1)) {
    const end = zone.midnight(start, 1);
    const small = step / finestMarks;
    const first = Math.max(0, Math.ceil((view.from - start) / small));
    for (let index = first; start + index * small < Math.min(end, view.to); index += 1) {
      const at = start + Math.round(index * small);
      if (index % finestMarks !== 0) found.push({ at });
      else if (index === 0) found.push({ at, label: zone.shortDay(at), strong: true });
      else found.push({ at, label: step < second ? zone.fine(at) : step < minute ? zone.clock(at) : zone.minute(at) });
    }
  }
  return found;
}

function dayMarks(view: View, days: number): Mark[] {
  const found: Mark[] = [];
  let start = zone.midnight(view.from);
  // Weeks start on Mondays, pairs of days on days that are even since then, so that marks stay when the view moves.
  if (days >= 7) start = zone.midnight(start, -zone.weekday(start));
  else if (days === 2 && Math.round(start / day) % 2 !== 0) start = zone.midnight(start, -1);
  for (let at = start; at < view.to; at = zone.midnight(at, days)) {
    if (at >= view.from) found.push({ at, label: zone.shortDay(at), strong: true });
    for (let small = 1; small < days; small += 1) found.push({ at: zone.midnight(at, small) });
  }
  return found;
}
