// The console: picks the page by the address's fragment and hands it a signal that ends when the page does.

import { head } from "./head";
import type { Page } from "./pages/page";
import { publishPage } from "./pages/publish";
import { serverPage } from "./pages/server";
import { signInPage } from "./pages/sign-in";
import { streamPage } from "./pages/stream";
import { streamsPage } from "./pages/streams";
import { setToken, signOut, takeTokenFromLink, token } from "./session";
import { applyTheme } from "./theme";
import { confirm } from "./widgets/dialog";
import { words } from "./words";

const root = document.querySelector<HTMLElement>("#page")!;
const bar = document.querySelector<HTMLElement>("#head")!;
let shown = new AbortController();

function show(): void {
  const linked = takeTokenFromLink();
  shown.abort();
  shown = new AbortController();
  root.replaceChildren();
  if (token() === null) return signIn();
  const page: Page = {
    root,
    signal: shown.signal,
    refused: () => {
      shown.abort();
      signOut();
      signIn(true);
    },
  };
  const name = /^#\/stream\/([A-Za-z0-9_.-]+)$/.exec(location.hash)?.[1];
  const published = /^#\/publish(?:\/([A-Za-z0-9_.-]+))?$/.exec(location.hash);
  const place = published !== null ? "publish" : name !== undefined ? "stream" : location.hash === "#/server" ? "server" : "streams";
  bar.replaceChildren(...head(place, show));
  document.title = name === undefined ? "Kinora" : `${name} · Kinora`;
  if (published !== null) publishPage(page, published[1] ?? "");
  else if (name !== undefined) streamPage(page, name);
  else if (place === "server") serverPage(page);
  else streamsPage(page);
  if (linked !== undefined) askBeforeReplacing(linked);
}

/** A login link was opened where another token is kept. */
function askBeforeReplacing(linked: string): void {
  const { title, text, button } = words.signIn.replace;
  confirm(title, text, button, shown.signal, async () => {
    setToken(linked);
    // The dialog closes with the page that is left.
    show();
  });
}

function signIn(refused = false): void {
  bar.replaceChildren(...head("sign-in", show));
  root.replaceChildren();
  signInPage(root, show, refused);
}

addEventListener("hashchange", show);
applyTheme();
show();
