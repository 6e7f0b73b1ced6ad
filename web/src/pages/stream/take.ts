// Fetches the pictures of a range, which come as parts of one answer, and saves them as one zip file.

import { send } from "../../api";
import { picturesPath, type Range } from "../../addresses";
import { readParts, type Part } from "../../multipart";
import { words } from "../../words";
import { zip, type ZipEntry } from "../../zip";

/** More pictures than these are work for a program, not for a page that holds them in memory. */
export const picturesMax = 2000;

/** The distance of two pictures; none for key frames, whose distance is the camera's. */
export function stepMs(every: string): number | undefined {
  const seconds = /^(\d+)s$/.exec(every)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** What was saved, and what could not be. */
export interface Taken {
  count: number;
  missing: Missing[];
  /** There are more than a page takes. */
  isCut: boolean;
}

/** A picture that the server could not give, or all of a span. */
export interface Missing {
  when: string;
  why: string;
}

/** Saves the pictures, with a list of those that are missing beside them; `seen` is told how many have come. */
export async function savePictures(
  name: string,
  range: Range,
  every: string,
  signal: AbortSignal,
  seen: (count: number) => void,
): Promise<Taken> {
  const answer = await send("GET", picturesPath(name, range, every), signal, undefined, "multipart/mixed");
  const entries: ZipEntry[] = [];
  const missing: Missing[] = [];
  let isCut = false;
  const add = (time: string | null, bytes: Uint8Array): void => {
    const stamp = (time ?? String(entries.length)).replace(/[:]/g, "-");
    entries.push({ name: `${name}_${stamp}.jpg`, bytes });
    seen(entries.length);
  };
  const type = answer.headers.get("content-type") ?? "";
  if (type.startsWith("multipart/")) {
    for await (const part of readParts(answer, type)) {
      const isPicture = part.headers.get("content-type")?.startsWith("image/") ?? false;
      if (!isPicture) missing.push(missingOf(part));
      else if (entries.length < picturesMax) add(part.headers.get("kinora-time") ?? null, part.bytes);
      else {
        isCut = true;
        break;
      }
    }
  } else add(answer.headers.get("kinora-time"), new Uint8Array(await answer.arrayBuffer()));
  const count = entries.length;
  if (count === 0) return { count, missing, isCut };
  if (missing.length > 0) {
    const lines = [words.take.missingHead, ...missing.map(({ when, why }) => `${when}  ${why}`), ""];
    entries.push({ name: "missing.txt", bytes: new TextEncoder().encode(lines.join("\n")) });
  }
  const address = URL.createObjectURL(zip(entries));
  save(address, `${name}-pictures.zip`);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  return { count, missing, isCut };
}

/** What stands in the place of a picture: its time in headers, and JSON that says why. */
function missingOf(part: Part): Missing {
  const [time, until] = [part.headers.get("kinora-time") ?? part.headers.get("kinora-asked") ?? "", part.headers.get("kinora-until")];
  const when = until === undefined ? time : words.take.missingUntil(time, until);
  let error: { code?: string; message?: string } | undefined;
  try {
    error = (JSON.parse(new TextDecoder().decode(part.bytes)) as { error?: typeof error }).error;
  } catch {
    // What is no JSON says nothing.
  }
  return { when, why: words.take.why[error?.code ?? ""] ?? error?.message ?? words.take.noReason };
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
