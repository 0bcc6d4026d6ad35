/** Checks that several parts of the second pass over a document share. Read validate.ts first. */
import type { DraftBridge, DraftHost, Items, Maybe } from './document-draft.ts';
import { type FaultCode, type Faults, oneOf } from './document-faults.ts';
import type { Backend, Datapath } from './topology.ts';
import { show } from './units.ts';

/** Half a page, as DPDK's mbufs have and a 1514-byte frame needs. */
export const BUFFER_BYTES = 2048;

/** What one server allows; settings. */
export interface Limits {
  readonly maxHosts: number;
  /** Guests of all hosts together. */
  readonly maxGuests: number;
  readonly maxNicsPerGuest: number;
  readonly maxGuestMemoryBytes: number;
  /** All of a world: guests, recorder and host buffers live in one memory. */
  readonly maxMemoryBytes: number;
}
const MiB = 1 << 20;
export const DEFAULT_LIMITS: Limits = {
  maxHosts: 16,
  maxGuests: 64,
  maxNicsPerGuest: 8,
  maxGuestMemoryBytes: 2048 * MiB,
  maxMemoryBytes: 3584 * MiB,
};

/** True where every item and its name could be read: only then does a name that is not found mean an unknown one. */
export function allNamed(items: Items<{ name: Maybe<string | null> }>): boolean {
  return items?.every((item) => item?.name !== undefined) ?? false;
}
/** Reports the second and later users of something that only one may have. */
export class Unique {
  private readonly seen = new Map<string, string>();
  private readonly faults: Faults;
  private readonly code: FaultCode;
  constructor(faults: Faults, code: FaultCode) {
    this.faults = faults;
    this.code = code;
  }
  claim(key: Maybe<string>, pointer: string, owner: string): void {
    if (key === undefined) return;
    const first = this.seen.get(key);
    if (first === undefined) this.seen.set(key, owner);
    else this.faults.add(pointer, this.code, `${show(key)} is already ${first}`);
  }
}
export function checkRange(
  value: Maybe<number>,
  limits: { min: number; max: number },
  format: (n: number) => string,
  pointer: string,
  faults: Faults,
): void {
  if (value === undefined || (value >= limits.min && value <= limits.max)) return;
  faults.add(
    pointer,
    'out-of-range',
    `${format(value)} is out of range`,
    `${format(limits.min)} to ${format(limits.max)}`,
  );
}
export function checkPower(
  value: Maybe<number>,
  pointer: string,
  faults: Faults,
  format: (n: number) => string = String,
): void {
  if (value === undefined || value < 1 || Number.isInteger(Math.log2(value))) return;
  const below = 2 ** Math.floor(Math.log2(value));
  const expected = `a power of two, such as ${format(below)} or ${format(below * 2)}`;
  faults.add(pointer, 'not-power-of-two', `${format(value)} is not a power of two`, expected);
}

/** Taps are ports of the kernel datapath or of a Linux bridge, vhost-user sockets of the userspace one. */
const DATAPATHS_OF: Readonly<Record<Backend, readonly Datapath[]>> = {
  'virtio-net': ['system', 'linux'],
  'vhost-net': ['system', 'linux'],
  'vhost-user': ['netdev'],
};
const datapathNames = (datapaths: readonly Datapath[]): string => datapaths.join(' or ');
export function checkBridge(
  host: DraftHost,
  name: Maybe<string>,
  backend: Maybe<Backend>,
  at: string,
  faults: Faults,
): void {
  if (name === undefined) return;
  const bridge = host.bridges?.find((b) => b?.name === name);
  const datapaths = backend === undefined ? undefined : DATAPATHS_OF[backend];
  if (bridge === undefined) {
    if (!allNamed(host.bridges)) return;
    const known = (host.bridges ?? []).flatMap((b) => b?.name ?? []);
    const expected = known.length === 0 ? 'a bridge of this host, which has none' : oneOf(known);
    faults.add(`${at}/bridge`, 'unknown-bridge', `there is no bridge ${show(name)} on this host`, expected);
  } else if (datapaths !== undefined && bridge.datapath !== undefined && !datapaths.includes(bridge.datapath)) {
    const detail = `${backend} needs a bridge with the ${datapathNames(datapaths)} datapath, and ${show(name)} has the ${bridge.datapath} one`;
    const expected = datapaths.map((datapath) => `"datapath": "${datapath}"`).join(' or ');
    faults.add(`${at}/bridge`, 'wrong-datapath', detail, `a bridge with ${expected}`);
  }
}
export function defaultBridge(host: DraftHost, backend: Maybe<Backend>, at: string, faults: Faults): Maybe<string> {
  if (!allNamed(host.bridges) || host.bridges?.some((b) => b?.datapath === undefined)) return undefined;
  const datapaths = backend === undefined ? undefined : DATAPATHS_OF[backend];
  const fits = (b: Maybe<DraftBridge>): boolean =>
    b?.datapath !== undefined && datapaths?.includes(b.datapath) !== false;
  const bridge = host.bridges?.find(fits);
  if (bridge !== undefined) return bridge.name;
  const what =
    datapaths === undefined ? 'bridge' : `bridge with the ${datapathNames(datapaths)} datapath, which ${backend} needs`;
  faults.add(`${at}/bridge`, datapaths === undefined ? 'unknown-bridge' : 'wrong-datapath', `this host has no ${what}`);
  return undefined;
}
