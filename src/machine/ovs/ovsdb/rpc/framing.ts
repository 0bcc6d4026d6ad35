/**
 * JSON texts out of a stream of bytes: they follow each other without a delimiter, and come in any pieces (RFC 7047 §4). What is
 * no JSON ends the stream, as soon as its form shows it.
 */
import type { Json } from '../json.ts';
import { isObject } from '../json.ts';

/** Objects and arrays inside each other (Open vSwitch lib/json.c JSON_MAX_HEIGHT). */
export const MAX_DEPTH = 1000;
/** Bytes of one text. */
export const MAX_BYTES = 16 * 1024 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
/** Bytes that may stand outside strings, besides brackets and quotes. */
const PLAIN = new Uint8Array(256);
for (const character of ' \t\r\n,:-+.0123456789eEtruefalsn') PLAIN[character.charCodeAt(0)] = 1;
const SPACE = new Uint8Array(256);
for (const character of ' \t\r\n') SPACE[character.charCodeAt(0)] = 1;

/** Why a stream is no stream of JSON texts. */
export class BadJson extends Error {}

/** A text that JSON.parse() takes, and the real server does not: a NUL, or half of a surrogate pair, in some string. */
function hasBadString(value: Json): boolean {
  if (typeof value === 'string') return value.includes('\0') || !value.isWellFormed();
  if (Array.isArray(value)) return value.some(hasBadString);
  return isObject(value) && Object.entries(value).some(([name, member]) => hasBadString(name) || hasBadString(member));
}

export class JsonStream {
  /** What there is of the text that is being read, and how much of it. */
  private buffer = new Uint8Array(0);
  private length = 0;
  /** One entry for each open bracket: 1 an object, 0 an array. */
  private readonly open = new Uint8Array(MAX_DEPTH);
  private depth = 0;
  private inString = false;
  private escaped = false;
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  /**
   * Takes bytes, and calls `each` with every text that they complete. Stops early where `each` says false. Throws BadJson.
   */
  feed(bytes: Uint8Array, each: (json: Json) => boolean): void {
    let begin = 0;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (this.inString) {
        if (this.escaped) this.escaped = false;
        else if (byte === BACKSLASH) this.escaped = true;
        else if (byte === QUOTE) this.inString = false;
        else if (byte < 0x20) throw new BadJson('a control character in a string');
        continue;
      }
      if (this.depth === 0) {
        if (SPACE[byte] === 1) continue;
        if (byte !== OPEN_OBJECT && byte !== OPEN_ARRAY) throw new BadJson('syntax error at beginning of input');
        begin = i;
      }
      if (!this.step(byte)) continue;
      const text = this.take(bytes.subarray(begin, i + 1));
      if (!each(parse(text))) return;
    }
    if (this.depth > 0) this.keep(bytes.subarray(begin));
  }

  /** Bytes that are kept for a text that is not complete. */
  get held(): number {
    return this.buffer.length;
  }

  /** One byte outside strings. True where it ends the text. */
  private step(byte: number): boolean {
    if (PLAIN[byte] === 1) return false;
    if (byte === QUOTE) {
      this.inString = true;
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (this.depth === MAX_DEPTH) throw new BadJson(`input exceeds maximum nesting depth ${MAX_DEPTH}`);
      this.open[this.depth++] = byte === OPEN_OBJECT ? 1 : 0;
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      this.depth--;
      if (this.open[this.depth] !== (byte === CLOSE_OBJECT ? 1 : 0)) throw new BadJson('brackets do not match');
      return this.depth === 0;
    } else {
      throw new BadJson('a character that JSON does not have here');
    }
    return false;
  }
  private keep(bytes: Uint8Array): void {
    const length = this.length + bytes.length;
    if (length > MAX_BYTES) throw new BadJson(`a message of more than ${MAX_BYTES} bytes`);
    if (length > this.buffer.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.buffer.length));
      larger.set(this.buffer.subarray(0, this.length));
      this.buffer = larger;
    }
    this.buffer.set(bytes, this.length);
    this.length = length;
  }
  /** The whole text, with its last piece. */
  private take(last: Uint8Array): string {
    let whole = last;
    if (this.length > 0) {
      this.keep(last);
      whole = this.buffer.subarray(0, this.length);
      this.length = 0;
      // Who sent one long message is not held to be sending another.
      this.buffer = new Uint8Array(0);
    } else if (last.length > MAX_BYTES) {
      throw new BadJson(`a message of more than ${MAX_BYTES} bytes`);
    }
    try {
      return this.decoder.decode(whole);
    } catch {
      throw new BadJson('no UTF-8');
    }
  }
}

function parse(text: string): Json {
  let json: Json;
  try {
    json = JSON.parse(text) as Json;
  } catch {
    throw new BadJson('no JSON');
  }
  // Only an escape can bring such a character in.
  if (text.includes('\\u') && hasBadString(json)) throw new BadJson('a character that no text may have');
  return json;
}
