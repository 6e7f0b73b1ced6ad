// Reads an answer of several parts (RFC 2046 section 5.1) as they come.

export interface Part {
  headers: Map<string, string>;
  bytes: Uint8Array;
}

/** No part of ours is longer; a part without an end is not read for ever. */
const partMax = 64 << 20;

export async function* readParts(answer: Response, contentType: string): AsyncGenerator<Part> {
  const boundary = /boundary="?([^";]+)"?/i.exec(contentType)?.[1];
  if (boundary === undefined || answer.body === null) return;
  const mark = new TextEncoder().encode(`\r\n--${boundary}`);
  const reader = answer.body.getReader();
  // As if a line ended before the first boundary too.
  let held = new Uint8Array([13, 10]);
  let searched = 0;
  try {
    for (;;) {
      let at = find(held, mark, searched);
      while (at >= 0) {
        const part = split(held.subarray(0, at));
        if (part !== undefined) yield part;
        held = held.slice(at + mark.length);
        if (held[0] === 45 && held[1] === 45) return;
        at = find(held, mark, 0);
      }
      searched = Math.max(0, held.length - mark.length);
      if (held.length > partMax) throw new Error("a part is too long");
      const { done, value } = await reader.read();
      if (done) return;
      const next = new Uint8Array(held.length + value.length);
      next.set(held);
      next.set(value, held.length);
      held = next;
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function find(bytes: Uint8Array, wanted: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(wanted[0]!, from); at >= 0; at = bytes.indexOf(wanted[0]!, at + 1)) {
    let same = 1;
    while (same < wanted.length && bytes[at + same] === wanted[same]) same += 1;
    if (same === wanted.length) return at;
  }
  return -1;
}

const blankLine = new Uint8Array([13, 10, 13, 10]);

/** What stands between two boundaries: headers, a blank line, the body. None for what comes before the first. */
function split(bytes: Uint8Array): Part | undefined {
  const end = find(bytes, blankLine, 0);
  if (end < 0) return undefined;
  const headers = new Map<string, string>();
  for (const line of new TextDecoder().decode(bytes.subarray(0, end)).split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  return { headers, bytes: bytes.slice(end + blankLine.length) };
}
