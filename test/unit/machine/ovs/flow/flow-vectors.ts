/** Flows that the real ovs-ofctl and Open vSwitch sent, taken apart: where match and actions stand in each kind of message. */
import { readFileSync } from 'node:fs';

interface Vectors {
  /** OpenFlow version (wire number), text that was given to `ovs-ofctl add-flow`, FLOW_MOD. */
  readonly ofctl: readonly (readonly [number, string, string])[];
  /** Transcript, FLOW_MOD, what ovs-ofctl prints of it. */
  readonly flowMods: readonly (readonly [string, string, string])[];
  /** Transcript, reply with flow statistics, its lines. */
  readonly flowStats: readonly (readonly [string, string, readonly string[]])[];
}

export const VECTORS = JSON.parse(
  readFileSync(new URL('../../../../vectors/openflow/flows.json', import.meta.url), 'utf8'),
) as Vectors;

export type Form = 'oxm' | 'nxm' | 'ofp10';
export interface FlowBytes {
  readonly version: number;
  readonly form: Form;
  readonly bytes: Uint8Array;
  readonly matchAt: number;
  readonly matchLength: number;
  readonly actionsAt: number;
  readonly actionsLength: number;
}

export const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const matchHex = (f: FlowBytes): string => toHex(f.bytes.subarray(f.matchAt, f.matchAt + f.matchLength));
export const actionsHex = (f: FlowBytes): string => toHex(f.bytes.subarray(f.actionsAt, f.actionsAt + f.actionsLength));

/** A FLOW_MOD, or Nicira's. */
export function flowMod(hex: string): FlowBytes {
  const bytes = fromHex(hex);
  const view = new DataView(bytes.buffer);
  const version = bytes[0]!;
  const rest = (form: Form, matchAt: number, matchLength: number, actionsAt: number): FlowBytes => ({
    version,
    form,
    bytes,
    matchAt,
    matchLength,
    actionsAt,
    actionsLength: bytes.length - actionsAt,
  });
  if (version > 1) {
    const length = view.getUint16(50);
    return rest('oxm', 52, length - 4, 48 + ((length + 7) & ~7));
  }
  if (bytes[1] === 14) return rest('ofp10', 8, 40, 72);
  const length = view.getUint16(40);
  return rest('nxm', 48, length, 48 + ((length + 7) & ~7));
}

export interface StatsBytes extends FlowBytes {
  readonly table: number;
  readonly priority: number;
  readonly cookie: bigint;
  readonly idle: number;
  readonly hard: number;
  /** Of the message; OFPUTIL_FF_… have the same bits from 1.3 on but for reset_counts. */
  readonly wireFlags: number;
  /** ns. */
  readonly duration: number;
  readonly packets: number;
  readonly byteCount: number;
  readonly idleAge: number | null;
}

/** Entries of a reply to FLOW (1.3 and later) or NXST_FLOW. */
export function flowStats(hex: string): StatsBytes[] {
  const bytes = fromHex(hex);
  const view = new DataView(bytes.buffer);
  const version = bytes[0]!;
  const found: StatsBytes[] = [];
  for (let at = version === 1 ? 24 : 16; at < bytes.length; ) {
    const size = view.getUint16(at);
    const nxm = version === 1;
    const length = view.getUint16(nxm ? at + 18 : at + 50);
    const actionsAt = at + 48 + ((length + 7) & ~7);
    found.push({
      version,
      form: nxm ? 'nxm' : 'oxm',
      bytes,
      matchAt: nxm ? at + 48 : at + 52,
      matchLength: nxm ? length : length - 4,
      actionsAt,
      actionsLength: at + size - actionsAt,
      table: bytes[at + 2]!,
      duration: view.getUint32(at + 4) * 1e9 + view.getUint32(at + 8),
      priority: view.getUint16(at + 12),
      idle: view.getUint16(at + 14),
      hard: view.getUint16(at + 16),
      wireFlags: nxm ? 0 : view.getUint16(at + 18),
      cookie: view.getBigUint64(at + 24),
      packets: Number(view.getBigUint64(at + 32)),
      byteCount: Number(view.getBigUint64(at + 40)),
      idleAge: nxm ? view.getUint16(at + 20) - 1 : null,
    });
    at += size;
  }
  return found;
}
