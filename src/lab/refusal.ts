/** How the engine says no to a command: an error that becomes a problem of the API. */
import type { EngineError } from './protocol.ts';

/** A refusal on its way to the API. */
export class Refusal extends Error {
  readonly error: EngineError;
  constructor(code: EngineError['code'], message: string, field?: string) {
    super(message);
    this.error = { code, message, ...(field === undefined ? {} : { field }) };
  }
}
