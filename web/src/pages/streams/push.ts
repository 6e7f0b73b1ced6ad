// How to push a stream: address, FFmpeg and GStreamer lines, QR code; with a secret that is made here and shown once.

import { Refused, api, type Server } from "../../api";
import { el } from "../../dom";
import { words } from "../../words";
import { copyField } from "../../widgets/copy";
import { openDialog } from "../../widgets/dialog";
import { qrCode } from "../../widgets/qr";
import { sentence } from "../poll";

const usualPort = "8554";

export function showPush(signal: AbortSignal, name: string): void {
  openDialog(words.push.title(name), signal, () => {
    const problem = el("p", { class: "problem", role: "alert" });
    const lines = el("div", { class: "push" });
    const make = el("button", { type: "button", class: "main" }, words.push.make);
    let port = usualPort;
    const draw = (secret: string | undefined): void => lines.replaceChildren(...describe(name, port, secret));
    // Only administrators may ask where the server listens; others are told the usual port.
    void api.server(signal).then((server) => {
      const found = rtspPort(server);
      if (found === undefined) problem.textContent = words.push.shut;
      else port = found;
      draw(undefined);
    }).catch(() => undefined);
    make.addEventListener("click", () => {
      make.disabled = true;
      api.mintSecret(name, name).then(
        ({ secret }) => {
          make.remove();
          draw(secret);
        },
        (error: unknown) => {
          make.disabled = false;
          const forbidden = error instanceof Refused && error.status === 403;
          problem.textContent = forbidden ? words.push.placeholder : sentence(error);
        },
      );
    });
    draw(undefined);
    return [el("p", { class: "soft" }, words.push.what), make, problem, lines];
  });
}

const rtspPort = (server: Server): string | undefined => server.listeners.rtsp?.split(":").pop();

function describe(name: string, port: string, secret: string | undefined): HTMLElement[] {
  const url = `rtsp://camera:${secret ?? "SECRET"}@${location.hostname}:${port}/${name}`;
  const ffmpeg = `ffmpeg -re -i clip.mp4 -c copy -f rtsp ${url}`;
  const gstreamer = `gst-launch-1.0 rtspclientsink name=sink location=${url} videotestsrc is-live=true ! x264enc tune=zerolatency key-int-max=60 ! h264parse ! sink.`;
  const fields = [
    copyField(words.push.url, url),
    el("p", { class: "hint" }, words.push.urlHint),
    copyField(words.push.ffmpeg, ffmpeg),
    copyField(words.push.gstreamer, gstreamer),
  ];
  if (secret === undefined) return fields;
  const code = el("figure", { class: "qr-box" });
  code.append(qrCode(url, words.push.qr), el("figcaption", { class: "hint" }, words.push.qr));
  return [el("p", { class: "notice" }, words.push.once), el("div", { class: "push-lines" }, el("div", {}, ...fields), code)];
}
