// The token of this browser: taken from the login link's fragment, which never travels to a server, and kept
// until the person signs out: a stream opened in another tab is signed in too.

const key = "kinora.token";

/** Takes `#token=...` out of the address bar, so that it stays in no history. Another token than the one that is kept is returned and
 * not stored: a link must not sign a person out of their own account without asking. */
export function takeTokenFromLink(): string | undefined {
  const match = /^#token=([^&]+)/.exec(location.hash);
  if (match?.[1] === undefined) return undefined;
  history.replaceState(null, "", location.pathname + "#/");
  const linked = decoded(match[1]);
  const kept = token();
  if (kept !== null && kept !== linked) return linked;
  setToken(linked);
  return undefined;
}

/** A stray `%` is part of the token: it must not leave an empty page. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function token(): string | null {
  return localStorage.getItem(key);
}

export function setToken(value: string): void {
  localStorage.setItem(key, value.trim());
}

export function signOut(): void {
  localStorage.removeItem(key);
}
