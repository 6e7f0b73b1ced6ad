// Numbers as people read them. Times are in zone.ts.

import { words } from "./words";

const scales = ["", "k", "M", "G", "T", "P"];

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

const codecs: Record<string, string> = {
  h264: "H.264",
  h265: "H.265",
  aac: "AAC",
  opus: "Opus",
  pcmu: "G.711 µ-law",
  pcma: "G.711 A-law",
  av1: "AV1",
  vp8: "VP8",
  vp9: "VP9",
};

export const codec = (name: string): string => codecs[name] ?? name;

/** "less than 0.1 s", "0.3 s", "12 s" */
export function seconds(ms: number): string {
  if (ms < 100) return words.units.least;
  return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} ${words.units.second}`;
}

/** "2 days 3 h", "4 h 5 min", "1 min 20 s", "12 s": two units at most. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const units: [number, string, string][] = [
    [86_400, words.units.day, words.units.days],
    [3600, words.units.hour, words.units.hour],
    [60, words.units.minute, words.units.minute],
    [1, words.units.second, words.units.second],
  ];
  const at = units.findIndex(([size]) => seconds >= size);
  if (at < 0) return `${(Math.max(0, ms) / 1000).toFixed(1)} ${words.units.second}`;
  const part = (index: number, rest: number): string => {
    const [size, one, many] = units[index]!;
    const count = Math.floor(rest / size);
    return count === 0 ? "" : `${count} ${count === 1 ? one : many}`;
  };
  const second = at + 1 < units.length ? part(at + 1, seconds % units[at]![0]) : "";
  return `${part(at, seconds)} ${second}`.trim();
}
