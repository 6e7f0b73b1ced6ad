// Where picture and sound come from: the choice of camera or screen, of devices, and the media that they give.

import { el } from "../../dom";
import { choice, field } from "../../widgets/field";
import { words } from "../../words";

type From = "camera" | "screen";

/** Values of the choice of sound that are no device. */
const [silent, ofScreen] = ["none", "screen"];

export class Source {
  private readonly camera = choice({ "": words.publish.anyCamera });
  private readonly sound = choice({});
  private readonly cameraField = field(words.publish.camera, this.camera);
  private readonly radios: HTMLInputElement[];
  private readonly box: HTMLElement;
  readonly element: HTMLElement;
  private media: MediaStream | undefined;

  /** `changed` when something else is chosen; `ended` when a device goes away or the person stops sharing. */
  constructor(
    private readonly changed: () => void,
    private readonly ended: () => void,
  ) {
    const radio = (from: From, label: string): HTMLLabelElement => {
      const input = el("input", { type: "radio", name: "from", value: from, change: () => this.choose() });
      input.checked = from === "camera";
      return el("label", { class: "check" }, input, label);
    };
    const canShare = typeof navigator.mediaDevices?.getDisplayMedia === "function";
    const options = [radio("camera", words.publish.fromCamera), ...(canShare ? [radio("screen", words.publish.fromScreen)] : [])];
    this.radios = options.map((label) => label.querySelector("input")!);
    this.box = el("fieldset", { class: "radios" }, el("legend", {}, words.publish.from), ...options);
    this.element = el("div", { class: "source" }, this.box, el("div", { class: "two" }, this.cameraField, field(words.publish.sound, this.sound)));
    for (const select of [this.camera, this.sound]) select.addEventListener("change", changed);
    this.listSounds([]);
    void this.list();
  }

  from(): From {
    return this.radios.find((one) => one.checked)?.value === "screen" ? "screen" : "camera";
  }

  /** Nothing can be chosen meanwhile. */
  lock(on: boolean): void {
    for (const control of [...this.radios, this.camera, this.sound]) control.disabled = on;
  }

  /** What is chosen, asked for when it is not there yet. Throws what the browser says. */
  async open(): Promise<MediaStream> {
    if (this.media !== undefined) return this.media;
    const media = this.from() === "screen" ? await this.share() : await this.film();
    this.media = media;
    for (const track of media.getTracks()) {
      track.addEventListener("ended", () => {
        if (this.media === media) this.ended();
      });
    }
    // Names of devices are told only to pages that may use them.
    void this.list();
    return media;
  }

  isOpen(): boolean {
    return this.media !== undefined;
  }

  /** Lets go of camera and microphone. */
  close(): void {
    const { media } = this;
    this.media = undefined;
    for (const track of media?.getTracks() ?? []) track.stop();
  }

  private choose(): void {
    this.cameraField.hidden = this.from() === "screen";
    void this.list();
    this.changed();
  }

  private film(): Promise<MediaStream> {
    const camera = this.camera.value;
    const video = { ...(camera === "" ? {} : { deviceId: { exact: camera } }), width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
    return navigator.mediaDevices.getUserMedia({ video, audio: this.microphone() });
  }

  private async share(): Promise<MediaStream> {
    const media = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: this.sound.value === ofScreen });
    // Letters must stay sharp; a smooth movement is worth less.
    for (const track of media.getVideoTracks()) track.contentHint = "detail";
    const audio = this.microphone();
    if (audio === false) return media;
    try {
      const spoken = await navigator.mediaDevices.getUserMedia({ audio });
      for (const track of spoken.getTracks()) media.addTrack(track);
    } catch (error) {
      for (const track of media.getTracks()) track.stop();
      throw error;
    }
    return media;
  }

  private microphone(): MediaTrackConstraints | boolean {
    const { value } = this.sound;
    if (value === silent || value === ofScreen) return false;
    return value === "" ? true : { deviceId: { exact: value } };
  }

  private async list(): Promise<void> {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
    const named = (kind: MediaDeviceKind): [string, string][] =>
      devices.filter((one) => one.kind === kind && one.label !== "" && one.deviceId !== "default").map((one) => [one.deviceId, one.label]);
    fill(this.camera, [["", words.publish.anyCamera], ...named("videoinput")]);
    this.listSounds(named("audioinput"));
  }

  private listSounds(microphones: [string, string][]): void {
    const screen: [string, string][] = this.from() === "screen" ? [[ofScreen, words.publish.screenSound]] : [];
    fill(this.sound, [...screen, ["", words.publish.anyMicrophone], ...microphones, [silent, words.publish.noSound]]);
  }
}

/** Puts options into a select; what was chosen stays, when it still can be. */
function fill(select: HTMLSelectElement, options: [string, string][]): void {
  const chosen = select.value;
  select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}
