// A <video> fed by hls.js: live, or from a time in the past that runs on into live.

import Hls from "hls.js";
import { hlsPath } from "./addresses";
import { serverNow } from "./clock";
import { token } from "./session";
import { words } from "./words";

const retryMs = 3000;
/** What is younger may lie in a fragment that is not closed yet, and then is not there at once: fragments end after 10 s. */
const youngMs = 15_000;
const youngRetryMs = 500;

/** Whether this browser plays a track with this name (RFC 6381). */
export const canPlay = (codecString: string): boolean =>
  typeof MediaSource !== "undefined" && MediaSource.isTypeSupported(`video/mp4; codecs="${codecString}"`);

export class HlsFeed {
  private hls: Hls | undefined;
  private recovered = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;

  /** `problem` is told sentences about what stopped it. */
  constructor(
    private readonly video: HTMLVideoElement,
    private readonly problem: (text: string) => void,
  ) {}

  /** Plays a stream live, or from `from` on. */
  play(name: string, from?: number): void {
    this.stop();
    const hls = new Hls({
      xhrSetup: (request) => request.setRequestHeader("authorization", `Bearer ${token() ?? ""}`),
      startPosition: from === undefined ? -1 : 0,
      backBufferLength: 60,
    });
    this.hls = hls;
    if (from !== undefined) {
      // The playlist starts with the fragment that `from` is in: the rest of the way is a seek.
      hls.once(Hls.Events.LEVEL_LOADED, (_event, { details }) => {
        const first = details.fragments[0];
        const late = (from - (first?.programDateTime ?? from)) / 1000;
        if (first !== undefined && late > 0 && late < first.duration) {
          this.video.addEventListener("loadedmetadata", () => (this.video.currentTime = first.start + late), { once: true });
        }
      });
    }
    hls.on(Hls.Events.ERROR, (_event, data) => {
      if (!data.fatal || this.hls !== hls) return;
      const status = data.response?.code;
      if (status === 401) return; // The page itself signs out.
      if (from !== undefined && (status === 404 || status === 410)) {
        const again = (): unknown => this.hls === hls && this.play(name, from);
        if (serverNow() - from < youngMs) this.retry = setTimeout(again, youngRetryMs);
        else this.problem(words.player.nothing);
        return;
      }
      if (data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || status === 415) {
        return this.problem(words.player.unplayable);
      }
      this.problem(words.player.stopped(data.details));
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - this.recovered > retryMs) {
        this.recovered = performance.now();
        hls.recoverMediaError();
      } else this.retry = setTimeout(() => this.hls === hls && this.play(name, from), retryMs);
    });
    hls.loadSource(hlsPath(name, from));
    hls.attachMedia(this.video);
    void this.video.play().catch(() => undefined);
  }

  /** When the shown picture was taken, by the producer's clock. */
  shownAt(): number | undefined {
    return this.hls?.playingDate?.getTime();
  }

  /** Goes there within what is loaded; false when it is not, and `play` must load it. */
  seek(at: number): boolean {
    const fragments = this.hls?.latestLevelDetails?.fragments ?? [];
    for (const { programDateTime, duration, start } of fragments) {
      if (programDateTime === null || at < programDateTime || at >= programDateTime + duration * 1000) continue;
      this.video.currentTime = start + (at - programDateTime) / 1000;
      void this.video.play().catch(() => undefined);
      return true;
    }
    return false;
  }

  stop(): void {
    clearTimeout(this.retry);
    this.hls?.destroy();
    this.hls = undefined;
  }
}
