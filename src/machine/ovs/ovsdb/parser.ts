/** Reads the members of a request's object, and words what is wrong with it as ovsdb-server does (lib/ovsdb-parser.c). */
import { type OvsdbError, syntaxError } from './error.ts';
import { isObject, type Json, type JsonObject } from './json.ts';

export type MemberType = 'string' | 'id' | 'array' | 'object' | 'boolean' | 'integer';

const ID = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** RFC 7047 §3.1 <id>. */
export const isId = (text: string): boolean => ID.test(text);

function hasType(value: Json, type: MemberType): boolean {
  switch (type) {
    case 'id':
      return typeof value === 'string' && isId(value);
    case 'array':
      return Array.isArray(value);
    case 'object':
      return isObject(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

/** One object. The first error is kept; members that are asked for after it are still told to be there. */
export class Parser {
  private readonly json: JsonObject | null;
  private readonly name: string;
  private readonly used = new Set<string>();
  error: OvsdbError | null = null;

  constructor(json: Json, name: string) {
    this.json = isObject(json) ? json : null;
    this.name = name;
    if (this.json === null) this.fail('Object expected.');
  }

  /** What is read; null where it is no object. */
  get whole(): JsonObject | null {
    return this.json;
  }
  fail(why: string): void {
    this.error ??= syntaxError(this.json ?? undefined, `Parsing ${this.name} failed: ${why}`);
  }

  /** A member's value; undefined where it is missing or has another type. */
  optional(name: string, type: MemberType): Json | undefined {
    if (this.json === null || !Object.hasOwn(this.json, name)) return undefined;
    const value = this.json[name]!;
    if (!hasType(value, type)) {
      this.fail(`Type mismatch for member '${name}'.`);
      return undefined;
    }
    this.used.add(name);
    return value;
  }
  private required(name: string, type: MemberType): Json | undefined {
    if (this.json !== null && !Object.hasOwn(this.json, name)) this.fail(`Required '${name}' member is missing.`);
    return this.optional(name, type);
  }

  /** A text; '' where there is an error. */
  text(name: string, type: 'string' | 'id'): string {
    const value = this.required(name, type);
    return typeof value === 'string' ? value : '';
  }
  array(name: string): Json[] {
    const value = this.required(name, 'array');
    return Array.isArray(value) ? value : [];
  }
  object(name: string): JsonObject {
    const value = this.required(name, 'object');
    return isObject(value) ? value : {};
  }

  /** Throws the error that was found. */
  check(): void {
    if (this.error !== null) throw this.error;
  }
  /** Members that nobody asked for are an error, too. */
  finish(): void {
    if (this.error === null && this.json !== null) {
      const unused = Object.keys(this.json).filter((name) => !this.used.has(name));
      const others = unused.length - 1;
      if (others === 0) {
        this.fail(`Member '${unused[0]}' is present but not allowed here.`);
      } else if (others > 0) {
        const plural = others > 1 ? 's' : '';
        this.fail(`Member '${unused[0]}' and ${others} other member${plural} are present but not allowed here.`);
      }
    }
    this.check();
  }
}
