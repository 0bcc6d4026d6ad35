/**
 * The server's end, as everything that lasts longer than a request sees it: long polls answer the state as it is, streams
 * end on a complete block or line, WebSockets close.
 */
export class Stopping {
  private readonly controller = new AbortController();

  get signal(): AbortSignal {
    return this.controller.signal;
  }
  get begun(): boolean {
    return this.controller.signal.aborted;
  }
  begin(): void {
    this.controller.abort();
  }
}

/** Resolves after `ms`, or at once when one of the signals is aborted (before or meanwhile). */
export function pause(ms: number, ...signals: AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    if (signals.some((signal) => signal.aborted)) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      for (const signal of signals) signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    for (const signal of signals) signal.addEventListener('abort', done, { once: true });
  });
}
