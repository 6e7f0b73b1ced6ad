// Pictures of one stream, for whoever moves through it quickly: the newest wish wins.
//
// At most two requests are on their way. A wish that comes meanwhile waits, and replaces the one that waited before; a
// picture that arrives drops what was asked before it. So the picture follows the pointer as fast as the server
// answers, and no queue builds up.

import { serverNow } from "./clock";
import { Refused, isAbort, send } from "./api";
import { picturePath, type PictureOptions } from "./addresses";

/** A decoded picture, and what the server says of it. */
export interface Picture {
  bitmap: ImageBitmap;
  /** When it was taken, in milliseconds since the epoch. */
  time: number;
  exact: boolean;
}

interface Wish {
  at: number | "latest";
  options: PictureOptions;
  number: number;
}

interface Stored {
  blob: Blob;
  time: number;
  exact: boolean;
}

const inFlightMax = 2;
const storedMax = 240;
/** A server that does as much as it can is asked again after this. */
const busyMs = 300;

export class Pictures {
  private readonly running = new Map<Wish, AbortController>();
  private readonly stored = new Map<string, Stored>();
  private waiting: Wish | undefined;
  private count = 0;
  private shown = 0;

  /** `show` gets pictures in the order of the wishes; `failed` the refusal of the newest wish. */
  constructor(
    private readonly name: string,
    private readonly show: (picture: Picture, wish: { at: number | "latest"; number: number }) => void,
    private readonly failed: (error: Refused) => void,
  ) {}

  /** Wishes for a picture. Gives the wish's number, which `show` names when it is fulfilled. */
  want(at: number | "latest", options: PictureOptions): number {
    const wish = { at, options, number: ++this.count };
    if (this.running.size < inFlightMax) void this.run(wish);
    else this.waiting = wish;
    return wish.number;
  }

  /** Forgets every wish: nothing of before is shown after this. */
  clear(): void {
    this.waiting = undefined;
    this.shown = this.count;
    for (const abort of this.running.values()) abort.abort();
  }

  private async run(wish: Wish): Promise<void> {
    const abort = new AbortController();
    this.running.set(wish, abort);
    try {
      const { blob, time, exact } = await this.load(wish, abort.signal);
      const bitmap = await createImageBitmap(blob);
      if (wish.number <= this.shown) bitmap.close();
      else {
        this.shown = wish.number;
        for (const [older, stale] of this.running) if (older.number < wish.number) stale.abort();
        this.show({ bitmap, time, exact }, wish);
      }
    } catch (error) {
      const newest = wish.number > this.shown && wish.number === this.count;
      if (error instanceof Refused && error.code === "busy" && newest) {
        setTimeout(() => wish.number === this.count && wish.number > this.shown && void this.run(wish), busyMs);
      } else if (!isAbort(error) && newest) {
        this.failed(error instanceof Refused ? error : new Refused(0, "picture", String(error)));
      }
    } finally {
      this.running.delete(wish);
      const next = this.waiting;
      this.waiting = undefined;
      if (next !== undefined) void this.run(next);
    }
  }

  private async load({ at, options }: Wish, signal: AbortSignal): Promise<Stored> {
    const path = picturePath(this.name, at, options);
    const kept = this.stored.get(path);
    if (kept !== undefined) return kept;
    const answer = await send("GET", path, signal);
    const time = Date.parse(answer.headers.get("kinora-time") ?? "");
    const loaded = {
      blob: await answer.blob(),
      time: Number.isNaN(time) ? (at === "latest" ? serverNow() : at) : time,
      exact: answer.headers.get("kinora-exact") !== "false",
    };
    if (at !== "latest") {
      this.stored.set(path, loaded);
      const oldest = this.stored.keys().next();
      if (this.stored.size > storedMax && !oldest.done) this.stored.delete(oldest.value);
    }
    return loaded;
  }
}
