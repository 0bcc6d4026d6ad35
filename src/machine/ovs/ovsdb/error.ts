/** Errors as the protocol shows them (RFC 7047 §3.1 <error>). */
import { type Json, type JsonObject, sortedText } from './json.ts';

/** Something that a client asked for and does not get. `tag` is the `error` member, `message` the `details`. */
export class OvsdbError extends Error {
  readonly tag: string;
  /** What was wrong in the request, as text; null where nothing is quoted. */
  readonly syntax: string | null;

  constructor(tag: string, details: string, syntax: string | null = null) {
    super(details);
    this.tag = tag;
    this.syntax = syntax;
  }

  toJson(): JsonObject {
    const syntax = this.syntax === null ? {} : { syntax: this.syntax };
    return { ...syntax, ...(this.message === '' ? {} : { details: this.message }), error: this.tag };
  }
}

/** A `syntax error`, or one with another `tag`, that quotes `json`. */
export function syntaxError(json: Json | undefined, details: string, tag = 'syntax error'): OvsdbError {
  return new OvsdbError(tag, details, json === undefined ? null : sortedText(json));
}
