// What a stream's page shows: the player, and over it single pictures while somebody scrubs, rewinds, or cannot play.
//
// A screen is in one of these ways:
//   live, past   the player plays
//   slides       pictures follow a clock that runs at some speed, also backwards: rewinding, and browsers that cannot
//                play the stream's format
//   still        one picture stands

import { serverNow } from "./clock";
import { Refused } from "./api";
import { el } from "./dom";
import { Pictures, type Picture } from "./pictures";
import { Player } from "./player";
import { words } from "./words";

export type Way = "nothing" | "live" | "past" | "slides" | "still";

const slideMs = 200;
const livePictureMs = 1000;
const speeds = [1, 2, 4, 8, 16];

export class Screen {
  private readonly cover = el("p", { class: "cover" });
  /**
   * Single pictures are drawn here. Its data say when the drawn one was taken, which time was asked for, by which wish, and
   * whether it is exact.
   */
  readonly still = el("canvas", { class: "still", hidden: true, role: "img", "aria-label": words.player.picture });
  readonly element: HTMLElement;
  readonly player: Player;
  private readonly pictures: Pictures;
  private way: Way = "nothing";
  /** Of the still, or of the slides' clock. */
  private at = 0;
  private speed = 1;
  private ticked = 0;
  private slideLive = false;
  private timer: ReturnType<typeof setInterval> | undefined;
  private held: number | undefined;

  constructor(
    private readonly name: string,
    signal: AbortSignal,
    private readonly changed: (way: Way) => void,
    private readonly problem: (text: string) => void,
  ) {
    this.player = new Player(problem, () => this.freeze(), () => changed(this.way), () => this.slides(serverNow(), 1, true));
    this.element = el("div", { class: "screen" }, this.player.video, this.still, this.cover);
    this.pictures = new Pictures(name, (picture, wish) => this.draw(picture, wish.at, wish.number), (error) => this.missing(error));
    const { video } = this.player;
    const ready = (): void => {
      if (this.way === "live" || this.way === "past") this.still.hidden = true;
    };
    video.addEventListener("playing", ready);
    video.addEventListener("seeked", ready);
    for (const event of ["play", "pause", "playing"]) video.addEventListener(event, () => this.changed(this.way));
    signal.addEventListener("abort", () => {
      this.rest();
      this.pictures.clear();
      this.player.stop();
    });
  }

  /** Whether the player plays what is shown now, or would play the past. */
  canPlay(): boolean {
    return this.player.canPlay() || this.way === "live";
  }

  mode(): Way {
    return this.way;
  }

  isLive(): boolean {
    return this.way === "live" || (this.way === "slides" && this.slideLive);
  }

  isPlaying(): boolean {
    if (this.way === "slides") return true;
    return (this.way === "live" || this.way === "past") && !this.player.video.paused;
  }

  /** When the shown picture was taken. */
  position(): number | undefined {
    if (this.way === "live" || this.way === "past") return this.player.shownAt() ?? this.held;
    return this.way === "nothing" ? undefined : this.at;
  }

  /** Says why nothing plays; over the newest picture, when there may be one. */
  say(text: string, picture: boolean): void {
    this.rest();
    this.way = "nothing";
    this.player.stop();
    this.player.video.hidden = this.still.hidden = true;
    this.cover.textContent = text;
    this.pictures.clear();
    if (picture) this.pictures.want("latest", { width: this.width(1280) });
    this.changed(this.way);
  }

  live(): void {
    if (!this.player.canPlayLive()) return this.slides(serverNow(), 1, true);
    if (this.way === "live" && this.player.isWatching()) return;
    this.begin("live");
    this.held = undefined;
    this.player.play(this.name);
    this.changed(this.way);
  }

  playFrom(at: number): void {
    if (!this.player.canPlay()) return this.slides(at, 1, false);
    const inPlace = (this.way === "live" || this.way === "past") && this.player.seek(at);
    this.begin("past");
    this.held = at;
    if (!inPlace) this.player.play(this.name, at);
    this.changed(this.way);
  }

  /** Shows one picture and stays there; `quick` takes the nearest key frame for it. */
  stand(at: number, quick: boolean): number {
    this.leave();
    // While somebody drags, what is on its way is still wanted: it is newer than what is shown.
    this.begin("still", quick && this.way === "still");
    this.at = at;
    this.changed(this.way);
    return this.pictures.want(at, quick ? { pick: "key", width: this.width(640) } : { width: this.width(1920) });
  }

  /** Pictures forwards or backwards; a further call in the same direction is faster. */
  wind(direction: 1 | -1): void {
    const at = this.position();
    if (at === undefined) return;
    const same = this.way === "slides" && !this.slideLive && Math.sign(this.speed) === direction;
    const next = same ? (speeds[speeds.indexOf(Math.abs(this.speed)) + 1] ?? speeds.at(-1)!) : 1;
    this.slides(at, direction * next, false);
  }

  /** The speed of winding, 1 when it is not. */
  rate(): number {
    return this.way === "slides" ? this.speed : this.player.video.playbackRate;
  }

  pause(): void {
    const at = this.position();
    if (this.way === "slides" && at !== undefined) this.stand(at, false);
    else if (this.player.isWatching()) {
      // What is live cannot wait: its picture stays, and from there the recording goes on.
      this.leave();
      this.begin("still");
      this.at = at ?? serverNow();
      this.changed(this.way);
    } else if (this.way === "live" || this.way === "past") {
      this.held = at;
      this.player.video.pause();
    }
  }

  resume(): void {
    const { video } = this.player;
    if (this.way === "still") this.playFrom(this.at);
    else if ((this.way === "live" || this.way === "past") && video.paused) {
      if (!this.player.isWatching()) this.way = "past";
      void video.play().catch(() => undefined);
      this.changed(this.way);
    }
  }

  private begin(way: Way, goOn = false): void {
    this.rest();
    this.way = way;
    this.cover.textContent = "";
    this.problem("");
    if (!goOn) this.pictures.clear();
    this.player.video.hidden = !this.canPlay();
    this.player.video.playbackRate = 1;
  }

  /** The player has nothing to do for now; its picture stays on the screen. */
  private leave(): void {
    if (this.way !== "live" && this.way !== "past") return;
    if (!this.player.isWatching()) return this.player.video.pause();
    this.freeze();
    this.player.stop();
  }

  /** Draws what the video shows over it, so that it stays when the video changes to something else. */
  private freeze(): void {
    const { still, player } = this;
    const { videoWidth, videoHeight } = player.video;
    if (videoWidth === 0 || !still.hidden) return;
    [still.width, still.height] = [videoWidth, videoHeight];
    still.getContext("2d")?.drawImage(player.video, 0, 0);
    still.hidden = false;
    for (const name of Object.keys(still.dataset)) delete still.dataset[name];
  }

  private slides(at: number, speed: number, live: boolean): void {
    this.leave();
    this.begin("slides");
    [this.at, this.speed, this.slideLive, this.ticked] = [at, speed, live, performance.now()];
    const tick = (): void => {
      const now = performance.now();
      this.at = live ? this.at : Math.min(serverNow(), this.at + (now - this.ticked) * this.speed);
      this.ticked = now;
      const near = Math.abs(speed) > 1 || speed < 0;
      this.pictures.want(live ? "latest" : Math.round(this.at), { ...(near ? { pick: "key" } : {}), width: this.width(960) });
    };
    tick();
    this.timer = setInterval(tick, live ? livePictureMs : slideMs);
    this.changed(this.way);
  }

  private rest(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** As wide as the screen is in device pixels, and at most `most`. */
  private width(most: number): number {
    const wide = Math.round(this.element.clientWidth * Math.min(2, devicePixelRatio || 1));
    return Math.max(160, Math.min(most, Math.ceil(wide / 160) * 160));
  }

  private draw({ bitmap, time, exact }: Picture, asked: number | "latest", wish: number): void {
    const { still } = this;
    if (still.width !== bitmap.width || still.height !== bitmap.height) {
      [still.width, still.height] = [bitmap.width, bitmap.height];
    }
    still.getContext("2d")?.drawImage(bitmap, 0, 0);
    bitmap.close();
    still.hidden = false;
    still.dataset["time"] = String(time);
    still.dataset["wish"] = String(wish);
    still.dataset["asked"] = String(asked);
    still.dataset["exact"] = String(exact);
    if (this.way === "nothing") return;
    this.cover.textContent = "";
    if (this.slideLive && this.way === "slides") this.at = time;
    this.problem("");
  }

  private missing(error: Refused): void {
    if (this.way !== "still" && this.way !== "slides") return;
    const gone = error.code === "no_media" || error.code === "media_gone";
    if (gone) {
      this.still.hidden = true;
      this.player.video.hidden = true;
      this.cover.textContent = words.player.nothing;
    } else this.problem(error.status === 404 || error.status === 501 ? words.player.noPictures : words.player.noPicture(error.message));
  }
}
