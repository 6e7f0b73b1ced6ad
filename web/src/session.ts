// The token of this browser tab: taken from the login link's fragment, which never travels to a server, and kept
// until the person signs out or closes the tab.

const key = "kinora.token";

/** Takes `#token=...` out of the address bar, so that it stays in no history. */
export function takeTokenFromLink(): void {
  const match = /^#token=([^&]+)/.exec(location.hash);
  if (match?.[1] === undefined) return;
  sessionStorage.setItem(key, decodeURIComponent(match[1]));
  history.replaceState(null, "", location.pathname + "#/");
}

export function token(): string | null {
  return sessionStorage.getItem(key);
}

export function setToken(value: string): void {
  sessionStorage.setItem(key, value.trim());
}

export function signOut(): void {
  sessionStorage.removeItem(key);
}
