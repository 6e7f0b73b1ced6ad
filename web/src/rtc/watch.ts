// One WHEP session that a <video> shows: live, with as little delay as there can be.

import { whepPath } from "../addresses";
import { token } from "../session";
import { Age } from "./age";
import { Exchange, type Unreachable } from "./exchange";

const lookMs = 500;
/** From the connection to the first picture: key pictures may be 10 s apart. */
const pictureMs = 12_000;
/** Sound that was promised may come so long after the first picture: what makes it may have to start. */
const soundMs = 5000;
/** Without a new picture for so long, something is wrong. */
const frozenMs = 12_000;

/** A connection is there and no picture came over it. */
export class NoPicture extends Error {}

export class Watch {
  private readonly over = new AbortController();
  private readonly age = new Age();
  private readonly shown = new MediaStream();
  /** When the first picture was there. */
  private since: number | undefined;

  constructor(private readonly video: HTMLVideoElement) {}

  /**
   * Starts, and resolves when there is a picture. `lost` is called when it breaks after that.
   *
   * Throws `Refused`, `Unreachable`, `NoPicture`, or the abort.
   */
  async start(name: string, lost: (error: Unreachable | NoPicture) => void): Promise<void> {
    const { video, shown } = this;
    const { signal } = this.over;
    const prepare = (peer: RTCPeerConnection): void => {
      peer.addEventListener("track", ({ track }) => shown.addTrack(track));
      for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
    };
    // Who leaves the page leaves the session: the server frees it at once.
    addEventListener("pagehide", () => this.end(), { signal });
    const exchange = await Exchange.make(prepare, whepPath(name), token() ?? "", signal);
    video.srcObject = shown;
    void video.play().catch(() => undefined);
    for (const track of shown.getTracks()) if (!exchange.has(track.kind as "audio" | "video")) shown.removeTrack(track);
    await exchange.connected(signal);
    await this.firstPicture(exchange.has("video"));
    this.since = performance.now();
    exchange.whenLost((error) => signal.aborted || lost(error));
    this.observe(exchange, lost);
  }

  /** Whether no sound comes, though pictures do: the server has none for WebRTC, or nothing to make it with. */
  isSilent(): boolean {
    if (this.since === undefined) return false;
    const promised = this.shown.getAudioTracks().some((track) => !track.muted || performance.now() - this.since! < soundMs);
    return !promised;
  }

  /** How old what is shown is, by this browser's clock, in ms. */
  ageMs(): number | undefined {
    return this.age.ms();
  }

  /** Ends the session; what was shown stays until the <video> gets something else. */
  end(): void {
    this.over.abort();
  }

  private async firstPicture(hasPictures: boolean): Promise<void> {
    const { video } = this;
    const { signal } = this.over;
    const done = new AbortController();
    try {
      await new Promise<void>((shows, fail) => {
        const late = setTimeout(() => fail(new NoPicture()), pictureMs);
        done.signal.addEventListener("abort", () => clearTimeout(late));
        signal.addEventListener("abort", () => fail(signal.reason as Error), { signal: done.signal });
        const look = (): void => {
          if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && (!hasPictures || video.videoWidth > 0)) shows();
        };
        for (const event of ["loadeddata", "playing", "resize"]) video.addEventListener(event, look, { signal: done.signal });
        look();
      });
    } finally {
      done.abort();
    }
  }

  private observe(exchange: Exchange, lost: (error: NoPicture) => void): void {
    let [count, since] = [0, performance.now()];
    const look = async (): Promise<void> => {
      const report = await exchange.stats();
      this.age.take(report);
      let decoded = 0;
      report.forEach((one: { type: string; framesDecoded?: number; jitterBufferEmittedCount?: number }) => {
        if (one.type === "inbound-rtp") decoded += one.framesDecoded ?? one.jitterBufferEmittedCount ?? 0;
      });
      if (decoded !== count || document.hidden) [count, since] = [decoded, performance.now()];
      if (performance.now() - since > frozenMs && !this.over.signal.aborted) lost(new NoPicture());
    };
    const timer = setInterval(() => void look().catch(() => undefined), lookMs);
    this.over.signal.addEventListener("abort", () => clearInterval(timer));
    void look().catch(() => undefined);
  }
}
