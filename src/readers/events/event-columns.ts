/** The columns `a` and `b` of an event as readers show them: their names, and `a` as a full number. */
import { type RingReader, restore, restoreNear } from '../../engine/event-ring.ts';
import {
  KIND_BY_ID,
  KIND_STRIDE,
  PACKET_CLONE,
  PACKET_DUPLICATE,
  PACKET_MERGE,
  PACKET_SEGMENT,
} from '../../engine/events.ts';

/** Name of a column: the first words of the table's entry, in camelCase; empty where the column is unused. */
function columnName(column: string): string {
  const words = column
    .split(/[|/]/)[0]!
    .trim()
    .split(' ')
    .filter((w) => w !== '');
  return words.map((w, i) => (i === 0 ? w : w[0]!.toUpperCase() + w.slice(1))).join('');
}
/** By kind id. */
export const NAME_A: readonly string[] = Array.from({ length: KIND_STRIDE }, (_, k) =>
  columnName(KIND_BY_ID[k]?.a ?? ''),
);
export const NAME_B: readonly string[] = Array.from({ length: KIND_STRIDE }, (_, k) =>
  columnName(KIND_BY_ID[k]?.b ?? ''),
);

const STORES_BYTES = Uint8Array.from({ length: KIND_STRIDE }, (_, k) => (KIND_BY_ID[k]?.a === 'position/8' ? 1 : 0));
/** Whether events of the kind say where bytes lie in the byte ring: position / 8 in `a`, length in `b`. */
export function storesBytes(kind: number): boolean {
  return STORES_BYTES[kind] === 1;
}

/** Whether column `a` of the kind is a frame. */
export function namesFrame(kind: number): boolean {
  return kind === PACKET_CLONE || kind === PACKET_DUPLICATE || kind === PACKET_SEGMENT || kind === PACKET_MERGE;
}

/** Column `a` of an event of the reader's current block as a full number: positions and parents are recorded as their low halves. */
export function valueOfA(reader: RingReader, kind: number, frame: number, a: number): number {
  if (storesBytes(kind)) return reader.bytePosition(a);
  if (kind === PACKET_CLONE || kind === PACKET_DUPLICATE || kind === PACKET_SEGMENT) return restore(a, frame);
  if (kind === PACKET_MERGE) return restoreNear(a, frame);
  return a;
}
