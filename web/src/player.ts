// A <video> fed by hls.js: live, or from a time in the past that runs on into live.

import Hls from "hls.js";
import { api } from "./api";
import { token } from "./session";
import { words } from "./words";

const retryMs = 3000;

export class Player {
  readonly video = document.createElement("video");
  private hls: Hls | undefined;
  private recovered = 0;

  /** `problem` is told sentences about what stopped the player, and "" when it plays. */
  constructor(private readonly problem: (text: string) => void) {
    this.video.controls = true;
    this.video.muted = true; // Browsers start only silent videos by themselves.
    this.video.playsInline = true;
    this.video.addEventListener("playing", () => this.problem(""));
  }

  /** Plays a stream live, or from `from` on. */
  play(name: string, from?: Date): void {
    this.stop();
    const hls = new Hls({
      xhrSetup: (request) => request.setRequestHeader("authorization", `Bearer ${token() ?? ""}`),
      startPosition: from === undefined ? -1 : 0,
      backBufferLength: 60,
    });
    this.hls = hls;
    hls.on(Hls.Events.ERROR, (_event, data) => {
      if (!data.fatal || this.hls !== hls) return;
      const status = data.response?.code;
      if (status === 401) return; // The page itself signs out.
      if (from !== undefined && (status === 404 || status === 410)) return this.problem(words.stream.nothing);
      if (data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || status === 415) {
        return this.problem(words.stream.unplayable);
      }
      this.problem(words.stream.stopped(data.details));
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - this.recovered > retryMs) {
        this.recovered = performance.now();
        hls.recoverMediaError();
      } else setTimeout(() => this.hls === hls && this.play(name, from), retryMs);
    });
    hls.loadSource(api.hlsAddress(name, from));
    hls.attachMedia(this.video);
    void this.video.play().catch(() => undefined);
  }

  /** When the shown picture was taken, by the producer's clock. */
  shownAt(): Date | undefined {
    return this.hls?.playingDate ?? undefined;
  }

  stop(): void {
    this.hls?.destroy();
    this.hls = undefined;
  }
}
