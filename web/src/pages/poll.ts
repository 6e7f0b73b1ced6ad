// Asks again and again while a page is shown, slower while the server does not answer.

import { Refused, isAbort } from "../api";
import { words } from "../words";
import type { Page } from "./page";

const slowest = 15_000;

/** Calls `ask` every `period` ms until the page ends; problems go to `problem` as sentences. */
export async function poll(page: Page, period: number, ask: () => Promise<void>, problem: (sentence: string) => void): Promise<void> {
  let wait = period;
  while (!page.signal.aborted) {
    try {
      await ask();
      problem("");
      wait = period;
    } catch (error) {
      if (page.signal.aborted || isAbort(error)) return;
      if (error instanceof Refused && error.status === 401) return page.refused();
      if (!(error instanceof Refused)) throw error;
      problem(sentence(error));
      wait = Math.min(wait * 2, slowest);
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

/** What went wrong, as people say it. */
export function sentence(error: unknown): string {
  if (!(error instanceof Refused)) return words.error.inner;
  if (error.status === 0) return words.error.network;
  if (error.code === "stream_not_found") return words.error.notFound;
  if (error.code === "stream_exists") return words.error.exists;
  if (error.code === "forbidden") return words.error.forbidden;
  return words.error.other(error.message);
}
