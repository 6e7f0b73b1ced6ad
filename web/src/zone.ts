// Times as people read them: in the viewer's own zone, which is named, or in UTC when the viewer says so.
//
// Here also: calendar arithmetic in that zone, which the ruler of the timeline and the date picker need.

import { serverNow } from "./clock";

const key = "kinora.zone";
const stored = localStorage.getItem(key);
let utc = stored === "utc";

export const isUtc = (): boolean => utc;

export function setUtc(on: boolean): void {
  utc = on;
  localStorage.setItem(key, on ? "utc" : "local");
  formats.clear();
}

/** The zone's name: "Europe/Berlin, GMT+2", or "UTC". */
export function zoneName(): string {
  if (utc) return "UTC";
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  if (timeZone === "UTC") return "UTC";
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "shortOffset" }).formatToParts(new Date());
  const offset = parts.find((part) => part.type === "timeZoneName")?.value ?? "";
  return `${timeZone}, ${offset}`;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function format(name: string, options: Intl.DateTimeFormatOptions, at: number): string {
  let found = formats.get(name);
  if (found === undefined) {
    found = new Intl.DateTimeFormat(undefined, { hourCycle: "h23", ...options, ...(utc ? { timeZone: "UTC" } : {}) });
    formats.set(name, found);
  }
  return found.format(at);
}

const clockParts = { hour: "2-digit", minute: "2-digit", second: "2-digit" } as const;

/** "Nov 26, 2026" */
export const day = (at: number): string => format("day", { dateStyle: "medium" }, at);
/** "Thu, Nov 26" */
export const shortDay = (at: number): string => format("short", { weekday: "short", month: "short", day: "numeric" }, at);
/** "14:05" */
export const minute = (at: number): string => format("minute", { hour: "2-digit", minute: "2-digit" }, at);
/** "14:05:09" */
export const clock = (at: number): string => format("clock", clockParts, at);
/** "14:05:09.120" */
export const fine = (at: number): string => format("fine", { ...clockParts, fractionalSecondDigits: 3 }, at);
/** "Nov 26, 2026, 14:05:09" */
export const time = (at: number): string => format("time", { year: "numeric", month: "short", day: "numeric", ...clockParts }, at);

/** A time beside now: the day is said only when it is another one. */
export const near = (at: number): string => (day(at) === day(serverNow()) ? clock(at) : time(at));

/** Midnight at or before `at`, moved by whole `days` of the calendar. */
export function midnight(at: number, days = 0): number {
  const date = new Date(at);
  if (utc) return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate() + days);
  return new Date(date.getFullYear(), date.getMonth(), date.getDate() + days).getTime();
}

/** Days since Monday, 0 to 6. */
export function weekday(at: number): number {
  const date = new Date(at);
  return ((utc ? date.getUTCDay() : date.getDay()) + 6) % 7;
}

/** The value of an `<input type="datetime-local">`. */
export function toInput(at: number): string {
  const shift = utc ? 0 : new Date(at).getTimezoneOffset() * 60_000;
  return new Date(at - shift).toISOString().slice(0, 19);
}

/** The time that an `<input type="datetime-local">` holds; none when it is empty or no time. */
export function fromInput(text: string): number | undefined {
  const at = Date.parse(utc ? `${text}Z` : text);
  return Number.isNaN(at) ? undefined : at;
}
