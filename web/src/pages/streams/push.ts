// How to push a stream: address, FFmpeg and GStreamer lines, QR code, WHIP; with a secret and a token that are made here and
// shown once.

import { Refused, api, type Server } from "../../api";
import { whipPath } from "../../addresses";
import { el } from "../../dom";
import { icon } from "../../icons";
import { words } from "../../words";
import { copyField } from "../../widgets/copy";
import { openDialog } from "../../widgets/dialog";
import { qrCode } from "../../widgets/qr";
import { sentence } from "../poll";

const usualPort = "8554";

/** What is shown once: a secret for RTSP, a token for WebRTC. */
interface Made {
  secret: string;
  token: string;
}

export function showPush(signal: AbortSignal, name: string): void {
  openDialog(words.push.title(name), signal, () => {
    const problem = el("p", { class: "problem", role: "alert" });
    const lines = el("div", { class: "push" });
    const make = el("button", { type: "button", class: "main" }, words.push.make);
    let [port, webrtc] = [usualPort, true];
    let made: Made | undefined;
    const draw = (): void => lines.replaceChildren(...describe(name, port, webrtc, made));
    // Only administrators may ask where the server listens; others are told the usual port.
    void api.server(signal).then((server) => {
      const found = rtspPort(server);
      if (found === undefined) problem.textContent = words.push.shut;
      else port = found;
      webrtc = server.listeners.webrtc !== undefined;
      draw();
    }).catch(() => undefined);
    const mint = async (): Promise<Made> => {
      const { secret } = await api.mintSecret(name, name);
      const { token } = await api.mintToken({ label: words.push.label(name), streams: name, actions: ["publish"] });
      return { secret, token };
    };
    make.addEventListener("click", () => {
      make.disabled = true;
      mint().then(
        (now) => {
          make.remove();
          made = now;
          draw();
        },
        (error: unknown) => {
          make.disabled = false;
          const forbidden = error instanceof Refused && error.status === 403;
          problem.textContent = forbidden ? words.push.placeholder : sentence(error);
        },
      );
    });
    draw();
    return [el("p", { class: "soft" }, words.push.what), make, problem, lines];
  });
}

const rtspPort = (server: Server): string | undefined => server.listeners.rtsp?.split(":").pop();

function describe(name: string, port: string, webrtc: boolean, made: Made | undefined): HTMLElement[] {
  const shown = [
    el("h3", {}, words.push.rtsp),
    rtsp(name, port, made?.secret),
    el("h3", {}, words.push.webrtc),
    ...(webrtc ? whip(name, made?.token) : [el("p", { class: "hint" }, words.push.whipShut)]),
  ];
  return made === undefined ? shown : [el("p", { class: "notice" }, words.push.once), ...shown];
}

function rtsp(name: string, port: string, secret: string | undefined): HTMLElement {
  const url = `rtsp://camera:${secret ?? "SECRET"}@${location.hostname}:${port}/${name}`;
  const ffmpeg = `ffmpeg -re -i clip.mp4 -c copy -f rtsp ${url}`;
  const gstreamer = `gst-launch-1.0 rtspclientsink name=sink location=${url} videotestsrc is-live=true ! x264enc tune=zerolatency key-int-max=60 ! h264parse ! sink.`;
  const fields = el(
    "div",
    { class: "push" },
    copyField(words.push.url, url),
    el("p", { class: "hint" }, words.push.urlHint),
    copyField(words.push.ffmpeg, ffmpeg),
    copyField(words.push.gstreamer, gstreamer),
  );
  if (secret === undefined) return fields;
  const code = el("figure", { class: "qr-box" });
  code.append(qrCode(url, words.push.qr), el("figcaption", { class: "hint" }, words.push.qr));
  return el("div", { class: "push-lines" }, fields, code);
}

function whip(name: string, token: string | undefined): HTMLElement[] {
  return [
    copyField(words.push.whip, new URL(whipPath(name), location.origin).href),
    copyField(words.push.whipToken, token ?? "TOKEN"),
    el("p", { class: "hint" }, words.push.obs),
    el("p", {}, el("a", { href: `#/publish/${name}`, class: "button quiet" }, icon("air"), words.push.here)),
  ];
}
