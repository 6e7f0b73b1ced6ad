// The <video> of a stream: live over WebRTC where that goes, else over HLS, and the past over HLS.

import { Refused, isAbort } from "./api";
import { serverNow } from "./clock";
import { el } from "./dom";
import { HlsFeed, canPlay } from "./hls";
import { Unreachable } from "./rtc/exchange";
import { NoPicture, Watch } from "./rtc/watch";
import { words } from "./words";

export type Over = "webrtc" | "hls";

const wishKey = "kinora.over";
/** A network that lets no WebRTC through is not tried again for so long. */
const shutMs = 600_000;
let shutUntil = 0;
let shutReason = "";
/** Between attempts to watch again, in seconds, while nobody publishes or the network is away. */
const waits = [0.5, 1, 2, 4, 5];
/** So often in a row the connection may break before HLS has its turn; what held for `holdsMs` was no break in a row. */
const breaksMax = 3;
const holdsMs = 30_000;
/** A lateness beyond that is a matter of wrong clocks. */
const lateMax = 3_600_000;

export class Player {
  readonly video = el("video", { playsinline: true, "aria-label": words.player.video });
  private readonly hls: HlsFeed;
  private watch: Watch | undefined;
  private isLive = false;
  private name = "";
  /** Why it is HLS, when it is not by choice. */
  private fallback = "";
  private soundCodec = "";
  private playsHls = true;
  private takesWebrtc = true;
  private attempts = 0;
  /** When the newest session showed its first picture; none before there was one. */
  private shownSince: number | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;

  /**
   * `problem` is told sentences about what stopped the player, and "" when it plays; `leaving` is called before what is on the
   * screen is taken away for something else; `changed` when live comes over something else; `cannot` when this browser plays
   * the stream in no way at all.
   */
  constructor(
    private readonly problem: (text: string) => void,
    private readonly leaving: () => void,
    private readonly changed: () => void,
    private readonly cannot: () => void,
  ) {
    const { video } = this;
    video.muted = true; // Browsers start only silent videos by themselves.
    video.addEventListener("playing", () => this.problem(""));
    for (const event of ["volumechange", "timeupdate"]) video.addEventListener(event, () => this.heard());
    this.hls = new HlsFeed(video, problem);
  }

  /** Plays a stream live, or from `from` on. */
  play(name: string, from?: number): void {
    this.stop();
    this.name = name;
    this.attempts = 0;
    this.shownSince = undefined;
    if (from !== undefined) return this.overHls(from);
    this.isLive = true;
    this.fallback = "";
    if (wish() === "hls" && this.playsHls) return this.overHls();
    if (!this.takesWebrtc) return this.fallBack(words.over.noCodec);
    if (Date.now() < shutUntil) return this.fallBack(shutReason);
    void this.overWebrtc();
  }

  /** Plays live over the other one from now on, here and in streams opened later. */
  change(): void {
    localStorage.setItem(wishKey, this.over() === "webrtc" ? "hls" : "webrtc");
    shutUntil = 0;
    this.leaving();
    this.play(this.name);
  }

  /** Whether live comes over WebRTC, or is about to. */
  isWatching(): boolean {
    return this.isLive && this.over() === "webrtc";
  }

  /** What live comes over. */
  over(): Over {
    return this.watch !== undefined || this.retry !== undefined ? "webrtc" : "hls";
  }

  /** Why that is not WebRTC; "" when it is, and when it is by choice. */
  reason(): string {
    return this.over() === "hls" ? this.fallback : "";
  }

  /** Which sound the stream has that WebRTC does not bring; "" for none. */
  silentCodec(): string {
    return this.watch?.isSilent() === true ? this.soundCodec : "";
  }

  /**
   * What the stream is: its pictures' codec, as a name and as its name in MP4 (RFC 6381; null when no player has it), undefined
   * when nobody knows; and its sound's codec as people call it, "" for none.
   */
  setCodecs(pictures: string | undefined, codecString: string | null | undefined, sound: string): void {
    this.playsHls = codecString === undefined || (codecString !== null && canPlay(codecString));
    this.takesWebrtc = pictures === undefined || receives(pictures);
    this.soundCodec = sound;
  }

  /** Whether it plays the past, and live over HLS. */
  canPlay(): boolean {
    return this.playsHls;
  }

  /** Whether it plays live, over one or the other. */
  canPlayLive(): boolean {
    return this.playsHls || this.takesWebrtc;
  }

  /** How old the shown picture is by the server's clock, in ms; none while nothing is known of it. */
  lateMs(): number | undefined {
    const at = this.shownAt();
    const late = at === undefined ? undefined : serverNow() - at;
    return late !== undefined && Math.abs(late) < lateMax ? Math.max(0, late) : undefined;
  }

  /** When the shown picture was taken, by the producer's clock. */
  shownAt(): number | undefined {
    if (this.watch === undefined) return this.hls.shownAt();
    const age = this.watch.ageMs();
    return age === undefined ? undefined : Date.now() - age;
  }

  /** Goes there within what is loaded; false when it is not, and `play` must load it. */
  seek(at: number): boolean {
    return this.watch === undefined && this.hls.seek(at);
  }

  stop(): void {
    clearTimeout(this.retry);
    this.retry = undefined;
    this.watch?.end();
    if (this.watch !== undefined) this.video.srcObject = null;
    this.watch = undefined;
    this.isLive = false;
    this.hls.stop();
  }

  private async overWebrtc(): Promise<void> {
    const watch = new Watch(this.video);
    this.watch = watch;
    this.changed();
    try {
      await watch.start(this.name, (error) => this.lost(watch, error));
      if (this.watch !== watch) return;
      this.shownSince = performance.now();
    } catch (error) {
      if (!isAbort(error)) this.lost(watch, error);
    }
  }

  private lost(watch: Watch, error: unknown): void {
    if (this.watch !== watch) return;
    this.leaving();
    watch.end();
    this.watch = undefined;
    if (error instanceof Refused && error.status === 401) return; // The page itself signs out.
    // Nobody publishes, or the server or the network is away: no other way would go either.
    const away = error instanceof Refused && (error.code === "no_media" || error.status === 0 || error.status === 503);
    if (this.shownSince !== undefined && performance.now() - this.shownSince > holdsMs) this.attempts = 0;
    const broke = error instanceof Unreachable && this.shownSince !== undefined;
    this.attempts += 1;
    if (away || (broke && this.attempts < breaksMax)) {
      this.problem(away && error.code === "no_media" ? words.player.away : words.player.stopped(words.over.broke));
      const wait = waits[Math.min(this.attempts, waits.length) - 1]!;
      this.retry = setTimeout(() => {
        this.retry = undefined;
        void this.overWebrtc();
      }, wait * 1000);
      return;
    }
    if (error instanceof Unreachable) {
      shutReason = words.over.unreachable(error.at.join(", "));
      shutUntil = Date.now() + shutMs;
      return this.fallBack(shutReason);
    }
    if (error instanceof NoPicture) return this.fallBack(words.over.noPicture);
    if (error instanceof Refused) return this.fallBack(refusal(error));
    this.fallBack(words.over.failed(String(error)));
  }

  private fallBack(reason: string): void {
    this.fallback = reason;
    if (this.playsHls) return this.overHls();
    this.stop();
    this.cannot();
  }

  private overHls(from?: number): void {
    if (this.video.srcObject !== null) this.video.srcObject = null;
    this.hls.play(this.name, from);
    this.changed();
  }

  /** Whoever turns the sound on wants to hear it: over HLS when WebRTC does not bring it. */
  private heard(): void {
    if (this.video.muted || !this.isLive || this.silentCodec() === "") return;
    const codec = this.soundCodec;
    this.leaving();
    this.watch?.end();
    this.watch = undefined;
    this.fallBack(words.over.sound(codec));
  }
}

/** Whether this browser takes pictures of this codec over WebRTC. H.265 a server may make into H.264: its answer says so. */
function receives(codec: string): boolean {
  if (typeof RTCPeerConnection === "undefined") return false;
  if (codec === "h265") return true;
  const all = RTCRtpReceiver.getCapabilities?.("video")?.codecs ?? [];
  return all.some(({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`);
}

const wish = (): Over => (localStorage.getItem(wishKey) === "hls" ? "hls" : "webrtc");

function refusal(error: Refused): string {
  if (error.code === "not_playable") return words.over.notPlayable(error.message.replace(/; it can be watched at .*$/, ""));
  if (error.status === 429) return words.over.many;
  return words.over.refused(error.message);
}
