// How this browser's clock differs from the server's, learnt from the Date of the server's answers. Without it a browser whose
// clock is wrong would say a wrong "how late".

/** What is to be added to this browser's time to have the server's lies between these, in ms. */
let [low, high] = [-Infinity, Infinity];

/** Learns from an answer that was asked for at `asked` and was there at `came`. */
export function learn(asked: number, came: number, date: string | null): void {
  const said = Date.parse(date ?? "");
  if (Number.isNaN(said)) return;
  // The server wrote its time in between, cut to the second.
  const [least, most] = [said - came, said + 1000 - asked];
  const agrees = least <= high && most >= low;
  // What contradicts all that came before: one of the clocks was set.
  [low, high] = agrees ? [Math.max(low, least), Math.min(high, most)] : [least, most];
}

/** What the server's clock shows. As long as the two may be the same, they are taken for the same: most clocks are right. */
export function serverNow(): number {
  if (low <= 0 && high >= 0) return Date.now();
  return Date.now() + (low + high) / 2;
}
