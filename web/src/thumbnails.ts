// The newest picture of each stream, for a page of many: only of those in view, two at a time, and each seldom.

import { Refused, send } from "./api";
import { picturePath } from "./addresses";

const atOnce = 2;
const refreshMs = 10_000;
const width = 480;

interface Place {
  name: string;
  image: HTMLImageElement;
  visible: boolean;
  /** Whether there is a picture to ask for, and whether there will be others. */
  has: boolean;
  live: boolean;
  /** When it was asked for last; none before. */
  asked: number | undefined;
}

export class Thumbnails {
  private readonly places = new Map<Element, Place>();
  private running = 0;
  /** The server has no pictures to give: it is asked no more. */
  private without = false;
  private readonly observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const place = this.places.get(entry.target);
      if (place !== undefined) place.visible = entry.isIntersecting;
    }
    this.next();
  });

  constructor(private readonly signal: AbortSignal) {
    const timer = setInterval(() => this.next(), 1000);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      this.observer.disconnect();
      for (const { image } of this.places.values()) URL.revokeObjectURL(image.src);
    });
  }

  /** Keeps `image` showing the newest picture of the stream; its parent is what must be in view, since it may be hidden. */
  add(name: string, image: HTMLImageElement): void {
    this.places.set(image.parentElement!, { name, image, visible: false, has: false, live: false, asked: undefined });
    this.observer.observe(image.parentElement!);
  }

  /** A stream of sound, or with nothing recorded, has no picture; one that nobody publishes the same one for ever. */
  set(image: HTMLImageElement, has: boolean, live: boolean): void {
    const place = this.places.get(image.parentElement!);
    if (place === undefined || (place.has === has && place.live === live)) return;
    place.has = has;
    place.live = live;
    place.asked = undefined;
    this.next();
  }

  remove(image: HTMLImageElement): void {
    this.observer.unobserve(image.parentElement!);
    this.places.delete(image.parentElement!);
    URL.revokeObjectURL(image.src);
  }

  private next(): void {
    const now = performance.now();
    while (this.running < atOnce && !this.without && !document.hidden && !this.signal.aborted) {
      const due = [...this.places.values()].filter(
        ({ visible, has, live, asked }) => visible && has && (asked === undefined || (live && now - asked > refreshMs)),
      );
      due.sort((a, b) => (a.asked ?? 0) - (b.asked ?? 0));
      const place = due[0];
      if (place === undefined) return;
      place.asked = now;
      this.running += 1;
      void this.load(place).finally(() => {
        this.running -= 1;
        this.next();
      });
    }
  }

  private async load({ name, image }: Place): Promise<void> {
    try {
      const answer = await send("GET", picturePath(name, "latest", { width }), this.signal);
      const before = image.src;
      image.src = URL.createObjectURL(await answer.blob());
      image.hidden = false;
      if (before !== "") URL.revokeObjectURL(before);
    } catch (error) {
      // The place keeps what it shows; a server that knows no such call is not asked again.
      if (error instanceof Refused && (error.code === "not_found" || error.status === 501)) this.without = true;
    }
  }
}
