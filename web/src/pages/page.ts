// What every page is given.

export interface Page {
  root: HTMLElement;
  /** Ends when another page is shown. */
  signal: AbortSignal;
  /** The server does not accept the token any more. */
  refused: () => void;
}
