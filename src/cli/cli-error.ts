/** How commands end: an exit code, and for what was wrong one message. */

/** What a command line or a CI job tests for. */
export const EXIT = { OK: 0, ASSERTION: 1, USAGE: 2, FAILED: 3 } as const;

/** Told on standard error, without a stack. */
export class CliError extends Error {
  readonly code: number;
  constructor(message: string, code: number = EXIT.USAGE) {
    super(message);
    this.code = code;
  }
}

interface FaultText {
  readonly pointer: string;
  readonly detail: string;
  readonly expected?: string;
}

/** Faults of a document, one line each. */
export function badDocument(what: string, faults: readonly FaultText[]): CliError {
  const lines = faults.map(({ pointer, detail, expected }) => {
    const wanted = expected === undefined ? '' : `; expected ${expected}`;
    return `  ${pointer === '' ? '(document)' : pointer}: ${detail}${wanted}`;
  });
  return new CliError([`${what} has ${faults.length} fault${faults.length === 1 ? '' : 's'}`, ...lines].join('\n'));
}
