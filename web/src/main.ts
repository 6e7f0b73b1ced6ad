// The console: picks the page by the address's fragment and hands it a signal that ends when the page does.

import "./style.css";
import { el } from "./dom";
import { signInPage } from "./pages/sign-in";
import { streamPage } from "./pages/stream";
import { streamsPage } from "./pages/streams";
import { signOut, takeTokenFromLink, token } from "./session";
import { words } from "./words";

const page = document.querySelector<HTMLElement>("#page")!;
const trail = document.querySelector<HTMLElement>("#trail")!;
let shown = new AbortController();

function show(): void {
  takeTokenFromLink();
  shown.abort();
  shown = new AbortController();
  page.replaceChildren();
  trail.replaceChildren();
  if (token() === null) {
    signInPage(page, show);
    return;
  }
  trail.append(
    el("button", { class: "quiet", click: () => (signOut(), show()) }, words.signOut),
  );
  const name = /^#\/stream\/([A-Za-z0-9_.-]+)$/.exec(location.hash)?.[1];
  const refused = (): void => {
    signOut();
    page.replaceChildren();
    trail.replaceChildren();
    signInPage(page, show, words.signIn.refused);
  };
  if (name === undefined) streamsPage(page, shown.signal, refused);
  else {
    trail.prepend(el("span", { "aria-hidden": "true" }, "/"), el("span", { class: "here" }, name));
    streamPage(page, name, shown.signal, refused);
  }
}

addEventListener("hashchange", show);
show();
