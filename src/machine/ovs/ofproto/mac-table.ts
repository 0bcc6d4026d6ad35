/**
 * The MAC table of a bridge (ovs lib/mac-learning.c): which address was last heard at which of its ports, by VLAN.
 * Ages are whole seconds, as there.
 */
import { isGroupMac } from '../../wire/ethernet.ts';
import type { Bundle } from './bundle.ts';

/** ovs lib/mac-learning.h. */
export const MAC_DEFAULT_MAX = 8192;
export const MAC_ENTRY_DEFAULT_IDLE_TIME = 300;
const MAC_ENTRY_IDLE_MIN = 15;
const MAC_ENTRY_IDLE_MAX = 3600;
/** mac-table-size: what is less or more is taken as these. */
const MAC_TABLE_MIN = 10;
const MAC_TABLE_MAX = 1e6;
/** MAC_GRAT_ARP_LOCK_TIME, seconds. */
const GRAT_ARP_LOCK = 5;

export interface MacEntry {
  /** Address as a number of 48 bits. */
  readonly mac: number;
  readonly vlan: number;
  bundle: Bundle;
  /** Second at which it is forgotten; Infinity: `fdb/add` made it. */
  expires: number;
  /** When a frame was last heard that it was learned from, ns. */
  heard: number;
  /** Second until which gratuitous ARPs that come back over a bond are not learned from. */
  gratArpLock: number;
}
/** An entry as plain data: a port by its OpenFlow number. */
export interface LearnedMac {
  readonly mac: string;
  readonly vlan: number;
  readonly port: string;
  readonly expires: number;
}

export interface MacStatistics {
  learned: number;
  expired: number;
  evicted: number;
  moved: number;
}

/** The address in bytes `at` … `at + 5`. */
export function macNumber(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at]! * 256 + bytes[at + 1]!) * 4294967296 +
    ((bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!) +
    ((bytes[at + 2]! & 0x80) === 0 ? 0 : 4294967296)
  );
}
export function macText(mac: number): string {
  return mac
    .toString(16)
    .padStart(12, '0')
    .replace(/..(?!$)/g, '$&:');
}

export class MacTable {
  /** By VLAN, then by address. */
  private readonly table = new Map<number, Map<number, MacEntry>>();
  /** Least recently used first: all that age, and those of each port. */
  private readonly lru = new Set<MacEntry>();
  private readonly byBundle = new Map<Bundle, Set<MacEntry>>();
  private count = 0;
  idleTime = MAC_ENTRY_DEFAULT_IDLE_TIME;
  maxEntries = MAC_DEFAULT_MAX;
  /** VLANs that are flooded without learning (Bridge.flood_vlans). */
  private floodVlans: ReadonlySet<number> = new Set();
  readonly stats: MacStatistics = { learned: 0, expired: 0, evicted: 0, moved: 0 };
  /** What translations depend on has changed: an entry is new, moved or gone. */
  declare private readonly changed: () => void;
  /** An address is new, or was heard at another port. */
  declare private readonly learned: (entry: MacEntry) => void;

  /** Brings ages up to date by what flows have carried: called before something is forgotten for its age. */
  declare private readonly refresh: () => void;

  constructor(changed: () => void, learned: (entry: MacEntry) => void, refresh: () => void) {
    this.changed = changed;
    this.learned = learned;
    this.refresh = refresh;
  }

  get size(): number {
    return this.count;
  }

  /** `seconds` as other_config:mac-aging-time, `entries` as other_config:mac-table-size. */
  configure(seconds: number, entries: number, floodVlans: readonly number[], now: number): void {
    const idleTime = Math.min(Math.max(seconds, MAC_ENTRY_IDLE_MIN), MAC_ENTRY_IDLE_MAX);
    if (idleTime !== this.idleTime) {
      for (const entry of this.lru) entry.expires += idleTime - this.idleTime;
      this.idleTime = idleTime;
    }
    this.maxEntries = Math.min(Math.max(entries, MAC_TABLE_MIN), MAC_TABLE_MAX);
    const vlans = new Set(floodVlans);
    if (vlans.size !== this.floodVlans.size || floodVlans.some((vlan) => !this.floodVlans.has(vlan))) {
      this.floodVlans = vlans;
      this.flush();
      this.changed();
    }
    this.run(now);
  }

  /** Whether the source may be learned at all: flood VLANs and group addresses are not. */
  mayLearn(mac: number, vlan: number): boolean {
    return !this.floodVlans.has(vlan) && !isGroupMac(mac);
  }

  lookup(mac: number, vlan: number, now: number): MacEntry | null {
    if (!this.mayLearn(mac, vlan)) return null;
    const entry = this.table.get(vlan)?.get(mac);
    if (entry === undefined) return null;
    if (now < entry.expires * 1e9) return entry;
    this.run(now);
    return now < entry.expires * 1e9 ? entry : null;
  }

  /**
   * Learns, or keeps young (mac_learning_update()). True where the table says something else now: the address is new or has moved.
   */
  update(mac: number, vlan: number, gratuitousArp: boolean, bundle: Bundle, now: number): boolean {
    if (!this.mayLearn(mac, vlan)) return false;
    const second = Math.floor(now / 1e9);
    let entry = this.lookup(mac, vlan, now);
    if (entry !== null) {
      if (entry.expires === Number.POSITIVE_INFINITY) return false;
      // What a flow counted before the address moved away says nothing any more.
      if (now < entry.heard) return false;
      entry.heard = now;
      if (entry.bundle === bundle && !gratuitousArp && entry.expires === second + this.idleTime) return false;
      if (gratuitousArp && bundle.bond !== null && second < entry.gratArpLock) return false;
      this.used(entry);
      entry.expires = second + this.idleTime;
      if (gratuitousArp && bundle.bond === null) entry.gratArpLock = second + GRAT_ARP_LOCK;
      if (entry.bundle === bundle) return false;
      this.byBundle.get(entry.bundle)?.delete(entry);
      entry.bundle = bundle;
      this.stats.moved++;
    } else {
      if (this.count >= this.maxEntries) this.evict();
      const lock = gratuitousArp && bundle.bond === null ? second + GRAT_ARP_LOCK : 0;
      entry = { mac, vlan, bundle, expires: second + this.idleTime, heard: now, gratArpLock: lock };
      this.insert(entry);
      this.stats.learned++;
    }
    this.ofBundle(bundle).add(entry);
    this.changed();
    this.learned(entry);
    return true;
  }
  /** What update() would say, without doing it. */
  wouldUpdate(mac: number, vlan: number, gratuitousArp: boolean, bundle: Bundle, now: number): boolean {
    if (!this.mayLearn(mac, vlan)) return false;
    const entry = this.table.get(vlan)?.get(mac);
    if (entry === undefined || now >= entry.expires * 1e9) return true;
    if (entry.expires === Number.POSITIVE_INFINITY) return false;
    if (gratuitousArp && bundle.bond !== null && now < entry.gratArpLock * 1e9) return false;
    return entry.bundle !== bundle;
  }

  /** `fdb/add`: an entry that never ages. */
  addStatic(mac: number, vlan: number, bundle: Bundle): void {
    this.remove(mac, vlan);
    const entry = { mac, vlan, bundle, expires: Number.POSITIVE_INFINITY, heard: 0, gratArpLock: 0 };
    this.insert(entry);
    this.ofBundle(bundle).add(entry);
    this.changed();
  }
  /** An entry as another table had it: nobody is told. */
  adopt(mac: number, vlan: number, bundle: Bundle, expires: number, now: number): void {
    if (now >= expires * 1e9) return;
    this.remove(mac, vlan);
    const entry = { mac, vlan, bundle, expires, heard: now, gratArpLock: 0 };
    this.insert(entry);
    this.ofBundle(bundle).add(entry);
    this.changed();
  }
  /** Takes an entry out. False where there is none. */
  remove(mac: number, vlan: number): boolean {
    const entry = this.table.get(vlan)?.get(mac);
    if (entry === undefined) return false;
    this.drop(entry);
    this.changed();
    return true;
  }
  /** Forgets everything that was learned (`fdb/flush`); static entries stay. */
  flush(): void {
    if (this.lru.size === 0) return;
    for (const entry of [...this.lru]) this.drop(entry);
    this.changed();
  }
  /** Forgets what a port has learned, static entries too. */
  flushBundle(bundle: Bundle): void {
    const entries = this.byBundle.get(bundle);
    if (entries === undefined) return;
    for (const entry of [...entries]) this.drop(entry);
    this.byBundle.delete(bundle);
    this.changed();
  }
  /** Forgets what has aged, and what a smaller table has no room for (mac_learning_run()). */
  run(now: number): void {
    const [oldest] = this.lru;
    if (oldest === undefined || (now < oldest.expires * 1e9 && this.count <= this.maxEntries)) return;
    this.refresh();
    let gone = false;
    for (const entry of this.lru) {
      if (now < entry.expires * 1e9 && this.count <= this.maxEntries) break;
      this.drop(entry);
      this.stats.expired++;
      gone = true;
    }
    if (gone) this.changed();
  }

  /** Static entries, then the others, least recently used first, as `fdb/show` lists them; nothing that has aged. */
  *entries(now: number): Generator<MacEntry> {
    for (const vlan of this.table.values())
      for (const entry of vlan.values()) if (entry.expires === Number.POSITIVE_INFINITY) yield entry;
    for (const entry of this.lru) if (now < entry.expires * 1e9) yield entry;
  }
  /** Seconds since the entry was last used; null: it is static. */
  age(entry: MacEntry, now: number): number | null {
    return entry.expires === Number.POSITIVE_INFINITY ? null : this.idleTime - (entry.expires - Math.floor(now / 1e9));
  }

  private insert(entry: MacEntry): void {
    let vlan = this.table.get(entry.vlan);
    if (vlan === undefined) {
      vlan = new Map();
      this.table.set(entry.vlan, vlan);
    }
    vlan.set(entry.mac, entry);
    if (entry.expires !== Number.POSITIVE_INFINITY) this.lru.add(entry);
    this.count++;
  }
  private used(entry: MacEntry): void {
    this.lru.delete(entry);
    this.lru.add(entry);
    const entries = this.ofBundle(entry.bundle);
    entries.delete(entry);
    entries.add(entry);
  }
  private ofBundle(bundle: Bundle): Set<MacEntry> {
    let entries = this.byBundle.get(bundle);
    if (entries === undefined) {
      entries = new Set();
      this.byBundle.set(bundle, entries);
    }
    return entries;
  }
  private drop(entry: MacEntry): void {
    this.table.get(entry.vlan)?.delete(entry.mac);
    this.lru.delete(entry);
    this.byBundle.get(entry.bundle)?.delete(entry);
    this.count--;
  }
  /** The least recently used entry of the port that has most (evict_mac_entry_fairly()). */
  private evict(): void {
    let most: Set<MacEntry> | null = null;
    for (const entries of this.byBundle.values()) if (most === null || entries.size > most.size) most = entries;
    if (most === null) return;
    for (const entry of most) {
      if (entry.expires === Number.POSITIVE_INFINITY) continue;
      this.drop(entry);
      this.stats.evicted++;
      return;
    }
  }
}
