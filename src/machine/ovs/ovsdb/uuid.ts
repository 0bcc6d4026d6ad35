/** UUIDs as text, lower case. */
import type { RandomStream } from '../../../engine/random.ts';

export const ZERO_UUID = '00000000-0000-0000-0000-000000000000';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The UUID that `text` spells; null: none. */
export function parseUuid(text: string): string | null {
  return UUID.test(text) ? text.toLowerCase() : null;
}

const hex = (value: number): string => value.toString(16).padStart(8, '0');

/** A random UUID (RFC 4122 §4.4, version 4). */
export function randomUuid(random: RandomStream): string {
  const a = hex(random.next());
  const b = hex(((random.next() & 0xffff0fff) | 0x4000) >>> 0);
  const c = hex(((random.next() & 0x3fffffff) | 0x80000000) >>> 0);
  const d = hex(random.next());
  return `${a}-${b.slice(0, 4)}-${b.slice(4)}-${c.slice(0, 4)}-${c.slice(4)}${d}`;
}
