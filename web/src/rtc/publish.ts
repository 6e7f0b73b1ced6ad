// One stream that this browser publishes over WHIP: it starts, it is live, it comes back after the network failed, it stops.

import { Refused, isAbort } from "../api";
import { whipPath } from "../addresses";
import { Exchange } from "./exchange";

/** Where it is. `waiting` is a connection that broke and is tried again. */
export type State =
  | { is: "idle"; error?: unknown }
  | { is: "connecting" }
  | { is: "live"; since: number }
  | { is: "waiting"; error: unknown };

/** What goes out, as far as the browser tells. */
export interface Figures {
  /** Of sound and pictures together, in bits a second. */
  bitrate?: number;
  width?: number;
  height?: number;
  rate?: number;
  codec?: string;
  sound?: string;
  /** Packets that the server did not get, and how many were sent. */
  lost?: number;
  sent?: number;
  roundTripMs?: number;
  /** What keeps the picture smaller than it could be: "bandwidth", "cpu". */
  limit?: string;
}

export const codecs = ["H264", "VP9", "AV1", "VP8"] as const;
export type Codec = (typeof codecs)[number];

/** Between attempts to come back, in seconds. */
const waits = [1, 2, 4, 8, 15];
/** Of these refusals none goes away by itself. */
const final = new Set([400, 401, 403, 406, 413]);

/** Codecs of pictures that this browser can send. */
export function sendable(): Codec[] {
  const all = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  return codecs.filter((name) => all.some(({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`));
}

export class Publishing {
  private state: State = { is: "idle" };
  private over = new AbortController();
  private exchange: Exchange | undefined;
  private attempts = 0;
  private before: { at: number; bytes: number } | undefined;

  constructor(private readonly changed: (state: State) => void) {}

  current(): State {
    return this.state;
  }

  /** Publishes `media` as the stream `name`; without `codec` in the one that most players play. */
  start(name: string, token: string, media: MediaStream, codec: Codec | undefined): void {
    this.end();
    this.over = new AbortController();
    this.attempts = 0;
    addEventListener("pagehide", () => this.end(), { signal: this.over.signal });
    void this.attempt(name, token, media, codec, false);
  }

  /** Stops; `error` is why, when nobody wished it. */
  stop(error?: unknown): void {
    this.end();
    this.become(error === undefined ? { is: "idle" } : { is: "idle", error });
  }

  async figures(): Promise<Figures> {
    const report = await this.exchange?.stats();
    const figures: Figures = {};
    if (report === undefined) return figures;
    let [bytes, at] = [0, 0];
    report.forEach((one: Record<string, number & string>) => {
      const codec = (report.get(one["codecId"] ?? "") as { mimeType?: string } | undefined)?.mimeType?.split("/")[1]?.toLowerCase();
      if (one["type"] === "outbound-rtp") {
        bytes += (one["bytesSent"] ?? 0) + (one["headerBytesSent"] ?? 0);
        at = one["timestamp"] ?? 0;
        figures.sent = (figures.sent ?? 0) + (one["packetsSent"] ?? 0);
        if (one["kind"] === "audio" && codec !== undefined) figures.sound = codec;
        if (one["kind"] === "video") {
          Object.assign(figures, { width: one["frameWidth"], height: one["frameHeight"], rate: one["framesPerSecond"], codec, limit: one["qualityLimitationReason"] });
        }
      }
      if (one["type"] === "remote-inbound-rtp") {
        figures.lost = (figures.lost ?? 0) + Math.max(0, one["packetsLost"] ?? 0);
        if (one["kind"] === "video" && one["roundTripTime"] !== undefined) figures.roundTripMs = one["roundTripTime"] * 1000;
      }
    });
    if (this.before !== undefined && at > this.before.at) figures.bitrate = ((bytes - this.before.bytes) * 8000) / (at - this.before.at);
    this.before = { at, bytes };
    return figures;
  }

  private async attempt(name: string, token: string, media: MediaStream, codec: Codec | undefined, again: boolean): Promise<void> {
    const { signal } = this.over;
    const failed = (error: unknown): void => {
      if (signal.aborted || isAbort(error)) return;
      this.hangUp();
      const hopeless = !again || (error instanceof Refused && final.has(error.status));
      if (hopeless) return this.stop(error);
      this.become({ is: "waiting", error });
      const wait = waits[Math.min(this.attempts, waits.length - 1)]!;
      this.attempts += 1;
      const timer = setTimeout(() => void this.attempt(name, token, media, codec, true), wait * 1000);
      signal.addEventListener("abort", () => clearTimeout(timer));
    };
    if (!again) this.become({ is: "connecting" });
    this.before = undefined;
    const prepare = (peer: RTCPeerConnection): void => {
      for (const track of media.getTracks()) {
        const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
        if (track.kind === "video") prefer(transceiver, codec);
      }
    };
    try {
      const exchange = await Exchange.make(prepare, whipPath(name), token, signal);
      this.exchange = exchange;
      await exchange.connected(signal);
      // From here on it is worth coming back for.
      exchange.whenLost((error) => {
        again = true;
        failed(error);
      });
      this.attempts = 0;
      this.become({ is: "live", since: Date.now() });
    } catch (error) {
      failed(error);
    }
  }

  private become(state: State): void {
    this.state = state;
    this.changed(state);
  }

  private end(): void {
    this.over.abort();
    this.hangUp();
  }

  private hangUp(): void {
    this.exchange?.end();
    this.exchange = undefined;
  }
}

/**
 * Puts the codecs into order: the one that was chosen alone, else H.264 first, which every player plays, also from the recording.
 */
function prefer(transceiver: RTCRtpTransceiver, chosen: Codec | undefined): void {
  const all = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  const rank = ({ mimeType }: { mimeType: string }): number => {
    const at = codecs.findIndex((name) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`);
    return at < 0 ? codecs.length : at;
  };
  const wanted = chosen === undefined ? all : all.filter((one) => rank(one) === codecs.length || codecs[rank(one)] === chosen);
  const ordered = wanted.map((one, at) => ({ one, at })).sort((a, b) => rank(a.one) - rank(b.one) || a.at - b.at);
  try {
    transceiver.setCodecPreferences(ordered.map(({ one }) => one));
  } catch {
    // A browser that cannot put them into order offers its own.
  }
}

