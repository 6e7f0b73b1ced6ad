// Asks again and again while a page is shown, slower while the server does not answer.

import { Refused } from "../api";
import { words } from "../words";

/** Calls `ask` every `period` ms until `signal` ends; problems go to `problem` as sentences, `refused` on a 401. */
export async function poll(
  period: number,
  signal: AbortSignal,
  ask: () => Promise<void>,
  problem: (sentence: string) => void,
  refused: () => void,
): Promise<void> {
  let wait = period;
  while (!signal.aborted) {
    try {
      await ask();
      problem("");
      wait = period;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) return refused();
      problem(sentence(error));
      wait = Math.min(wait * 2, 15_000);
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

export function sentence(error: Refused): string {
  if (error.status === 0) return words.error.network;
  if (error.code === "stream_not_found") return words.error.notFound;
  return words.error.other(error.message);
}
