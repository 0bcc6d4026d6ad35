/** Lists in pages: the cursor is opaque to clients and holds the key of the last item that was answered. */
import { Problem } from './problem.ts';

export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | null;
}

export function cursorKey(cursor: string | undefined): string {
  if (cursor === undefined) return '';
  const key = Buffer.from(cursor, 'base64url').toString('utf8');
  if (cursorOf(key) === cursor) return key;
  const detail = 'is not a cursor of this server';
  throw new Problem('RINGSIDE_E_REQUEST', `'cursor' ${detail}`, {
    errors: [{ pointer: 'querystring/cursor', detail }],
  });
}

export function cursorOf(key: string): string {
  return Buffer.from(key, 'utf8').toString('base64url');
}

/** A page of a list that is at hand as a whole; its cursor is a position. */
export function pageOfList<T>(list: readonly T[], query: { limit: number; cursor?: string }): Page<T> {
  const key = cursorKey(query.cursor);
  const start = /^\d{0,9}$/.test(key) ? Number(key) : Number.NaN;
  if (Number.isNaN(start)) throw new Problem('RINGSIDE_E_REQUEST', `'cursor' is not a cursor of this list`);
  const end = start + query.limit;
  return { items: list.slice(start, end), next: end < list.length ? cursorOf(String(end)) : null };
}
