// Numbers and times as people read them, in the viewer's own zone and language.

const scales = ["", "k", "M", "G", "T"];

function scaled(value: number, unit: string): string {
  let step = 0;
  while (value >= 1000 && step < scales.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${value.toFixed(value < 10 && step > 0 ? 1 : 0)} ${scales[step] ?? ""}${unit}`;
}

export const bitrate = (bitsPerSecond: number): string => (bitsPerSecond > 0 ? scaled(bitsPerSecond, "bit/s") : "–");

export const bytes = (count: number): string => scaled(count, "B");

const timeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const time = (date: Date): string => timeFormat.format(date);

const dayFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clockFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** A time beside `other`: the day is said only when it is not the same. */
export const timeBeside = (date: Date, other: Date): string =>
  dayFormat.format(date) === dayFormat.format(other) ? clockFormat.format(date) : time(date);

/** The zone that times are shown in, by its short name. */
export const zone = (): string =>
  new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(new Date()).find((part) => part.type === "timeZoneName")?.value ?? "";
