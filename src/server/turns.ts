/**
 * Turns of the event loop for work in small steps. However many streams there are, one step is done per turn, so that a
 * request waits for one step at most.
 */
const waiting: (() => void)[] = [];
let scheduled = false;

/** Resolves when the caller may do its next step. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    schedule();
  });
}

function schedule(): void {
  if (scheduled || waiting.length === 0) return;
  scheduled = true;
  setImmediate(() => {
    scheduled = false;
    waiting.shift()?.();
    schedule();
  });
}
