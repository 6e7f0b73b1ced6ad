// Fetches the pictures of a range, which come as parts of one answer, and saves them as one zip file.

import { send } from "../../api";
import { picturesPath, type Range } from "../../addresses";
import { readParts } from "../../multipart";
import { zip, type ZipEntry } from "../../zip";

/** More pictures than these are work for a program, not for a page that holds them in memory. */
export const picturesMax = 2000;

/** The distance of two pictures; none for key frames, whose distance is the camera's. */
export function stepMs(every: string): number | undefined {
  const seconds = /^(\d+)s$/.exec(every)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** Saves the pictures, and gives their count; `seen` is told how many have come. */
export async function savePictures(
  name: string,
  range: Range,
  every: string,
  signal: AbortSignal,
  seen: (count: number) => void,
): Promise<number> {
  const answer = await send("GET", picturesPath(name, range, every), signal, undefined, "multipart/mixed");
  const entries: ZipEntry[] = [];
  const add = (time: string | null, bytes: Uint8Array): void => {
    const stamp = (time ?? String(entries.length)).replace(/[:]/g, "-");
    entries.push({ name: `${name}_${stamp}.jpg`, bytes });
    seen(entries.length);
  };
  const type = answer.headers.get("content-type") ?? "";
  if (type.startsWith("multipart/")) {
    for await (const part of readParts(answer, type)) {
      // An instant that has no picture is told as JSON, in its place.
      const isPicture = part.headers.get("content-type")?.startsWith("image/") ?? false;
      if (isPicture && entries.length < picturesMax) add(part.headers.get("kinora-time") ?? null, part.bytes);
    }
  } else add(answer.headers.get("kinora-time"), new Uint8Array(await answer.arrayBuffer()));
  if (entries.length === 0) return 0;
  const address = URL.createObjectURL(zip(entries));
  save(address, `${name}-pictures.zip`);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  return entries.length;
}

/** Lets the browser save what is at this address. */
export function save(address: string, name: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}
