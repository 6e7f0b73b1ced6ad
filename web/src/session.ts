// The token of this browser: taken from the login link's fragment, which never travels to a server, and kept
// until the person signs out: a stream opened in another tab is signed in too.

const key = "kinora.token";

/** Takes `#token=...` out of the address bar, so that it stays in no history. */
export function takeTokenFromLink(): void {
  const match = /^#token=([^&]+)/.exec(location.hash);
  if (match?.[1] === undefined) return;
  localStorage.setItem(key, decodeURIComponent(match[1]));
  history.replaceState(null, "", location.pathname + "#/");
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
