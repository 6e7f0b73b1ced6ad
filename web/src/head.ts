// The line on top of every page: where to go, how times and colours are shown, and out.

import { el, type Child } from "./dom";
import { icon, iconButton } from "./icons";
import { signOut } from "./session";
import { setTheme, theme, themes } from "./theme";
import { words } from "./words";
import { isUtc, setUtc, zoneName } from "./zone";

export function head(place: "streams" | "stream" | "publish" | "server" | "sign-in", again: () => void): HTMLElement[] {
  const signedIn = place !== "sign-in";
  const link = (href: string, text: string, here: boolean): HTMLElement =>
    el("a", { href, "aria-current": here ? "page" : undefined }, text);
  const nav = el(
    "nav",
    { "aria-label": words.nav.label },
    link("#/", words.nav.streams, place === "streams"),
    link("#/server", words.nav.server, place === "server"),
  );
  const zone = el("button", {
    type: "button",
    class: "quiet zone",
    title: isUtc() ? words.nav.toLocal : words.nav.toUtc,
    "aria-pressed": String(isUtc()),
    click: () => {
      setUtc(!isUtc());
      again();
    },
  });
  zone.append(el("span", { class: "unseen" }, `${words.nav.toUtc}. `), el("span", {}, words.nav.zone(zoneName())));
  const out: Child = signedIn ? iconButton("leave", words.nav.signOut, () => (signOut(), again())) : null;
  return [
    el("a", { href: "#/", class: "brand" }, icon("camera"), "Kinora"),
    ...(signedIn ? [nav] : []),
    el("div", { class: "head-end" }, zone, themeButton(), out),
  ];
}

function themeButton(): HTMLElement {
  const faces = { auto: "auto", light: "sun", dark: "moon" } as const;
  const box = el("span", { class: "swap" });
  const draw = (): void => {
    const now = theme();
    const button = iconButton(faces[now], words.nav.theme[now], () => {
      setTheme(themes[(themes.indexOf(now) + 1) % themes.length]!);
      draw();
      box.querySelector("button")?.focus();
    });
    box.replaceChildren(button);
  };
  draw();
  return box;
}
