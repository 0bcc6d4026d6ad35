/**
 * Today's OpenFlow pipeline behind the slow path: the default flow of a fresh bridge, `priority=0 actions=NORMAL`: MAC learning and
 * flooding (ovs ofproto-dpif-xlate.c, xlate_normal).
 *
 * DEVIATION: no VLANs (tagged frames are forwarded within VLAN 0), no LOCAL port, no STP.
 */
import { DP_FDB_LEARN } from '../../../engine/events.ts';
import type { Recorder } from '../../../engine/recorder.ts';
import { DP_WORDS, W_ETH, W_ETH_TYPE, W_IN_PORT, W_NW, W_RECIRC_ID } from '../flow/flow.ts';
import type { OvsBridge } from './bridge.ts';
import type { SlowPath, Translation, UpcalledPacket } from './slow-path.ts';

export interface FdbEntry {
  readonly mac: string;
  readonly vlan: number;
  port: number;
  /** Time of the last learning, ns. */
  learned: number;
}

/** The fields that NORMAL looks at, and so what the datapath flow must match exactly: in_port, Ethernet, VLAN, fragments. */
export const NORMAL_MASK: Int32Array = (() => {
  const mask = new Int32Array(DP_WORDS);
  for (let i = W_IN_PORT; i <= W_ETH_TYPE; i++) mask[i] = -1;
  mask[W_NW] = 0xff000000 | 0;
  mask[W_RECIRC_ID] = -1;
  return mask;
})();

export class NormalOfproto {
  /** Port numbers that exist, in order. */
  readonly ports: number[] = [];
  /** MAC table by the two words of an address. */
  private readonly fdb = new Map<number, FdbEntry>();
  declare private readonly maxEntries: number;
  declare private readonly agingNs: number;
  declare private readonly recorder: Recorder;
  declare private readonly bridgeBits: number;
  /** What the OpenFlow rule counted beyond the datapath flows that stand: upcalled frames, and flows that are gone. */
  creditedPackets = 0;
  creditedBytes = 0;
  /** Translations made. */
  translations = 0;
  /** Brings the ages up to date by what the datapath's flows have seen (refresh()). */
  refreshAll: () => void = () => {};

  constructor(recorder: Recorder, bridgePlace: number, maxEntries: number, agingSeconds: number) {
    this.recorder = recorder;
    this.bridgeBits = bridgePlace << 8;
    this.maxEntries = maxEntries;
    this.agingNs = agingSeconds * 1e9;
  }

  /** What is known at `now`. */
  entries(now: number): readonly FdbEntry[] {
    this.refreshAll();
    return [...this.fdb.values()].filter((entry) => now - entry.learned <= this.agingNs);
  }
  /** The MAC table as it is, oldest entry first; no age is brought up to date. */
  learned(): FdbEntry[] {
    return Array.from(this.fdb.values(), (entry) => ({ ...entry }));
  }
  /** Takes over the MAC table of a bridge that has the same ports. */
  adopt(entries: readonly FdbEntry[]): void {
    for (const entry of entries) this.fdb.set(Number.parseInt(entry.mac.replaceAll(':', ''), 16), { ...entry });
  }

  /** False where frames with this key would be learned: their source is not known at their port. */
  knows(key: Int32Array): boolean {
    const source = sourceOf(key);
    return source.multicast || reserved(destinationOf(key)) || this.fdb.get(source.id)?.port === key[0];
  }

  addPort(port: number): void {
    this.ports.push(port);
    this.ports.sort((a, b) => a - b);
  }
  /** The port is gone, and with it what was learned there. */
  removePort(port: number): void {
    this.ports.splice(this.ports.indexOf(port), 1);
    for (const [id, entry] of this.fdb) if (entry.port === port) this.fdb.delete(id);
  }

  credit(packets: number, bytes: number): void {
    this.creditedPackets += packets;
    this.creditedBytes += bytes;
  }

  /** Translates the frame with `key` at `now`. `learned` is set when the MAC table changed. */
  translate(key: Int32Array, now: number, contextBits: number): { outputs: Int32Array; learned: boolean } {
    this.translations++;
    const inPort = key[0]!;
    const source = sourceOf(key);
    const learned = !source.multicast && !reserved(destinationOf(key)) && this.learn(source, inPort, now, contextBits);
    return { outputs: this.outputs(key, now), learned };
  }

  /** The outputs of NORMAL for a key with the MAC table as it stands. */
  outputs(key: Int32Array, now: number): Int32Array {
    const inPort = key[0]!;
    const destination = destinationOf(key);
    if (!destination.multicast) {
      const entry = this.fdb.get(destination.id);
      if (entry && this.young(entry, now)) return entry.port === inPort ? new Int32Array(0) : Int32Array.of(entry.port);
    } else if (reserved(destination)) return new Int32Array(0);
    return Int32Array.from(this.ports.filter((p) => p !== inPort));
  }

  private young(entry: FdbEntry, now: number): boolean {
    if (now - entry.learned > this.agingNs) this.refreshAll();
    return now - entry.learned <= this.agingNs;
  }

  private learn(source: Mac, port: number, now: number, contextBits: number): boolean {
    const entry = this.fdb.get(source.id);
    if (entry && entry.port === port && this.young(entry, now)) {
      entry.learned = now;
      return false;
    }
    if (entry) {
      entry.port = port;
      entry.learned = now;
    } else {
      if (this.fdb.size >= this.maxEntries) this.fdb.delete(this.fdb.keys().next().value as number);
      this.fdb.set(source.id, { mac: source.text, vlan: 0, port, learned: now });
    }
    this.recorder.event(this.bridgeBits | contextBits | DP_FDB_LEARN, 0, source.low, port);
    return true;
  }

  /** A flow whose source is this address was used: its entry stays young (xlate_push_stats of the revalidators). */
  refresh(key: Int32Array, used: number): void {
    const entry = this.fdb.get(sourceOf(key).id);
    if (entry && entry.port === key[0] && used > entry.learned) entry.learned = used;
  }
}

interface Mac {
  readonly id: number;
  readonly low: number;
  readonly multicast: boolean;
  readonly text: string;
}
/** An address from its first two bytes (as a little-endian word) and its last four. */
function macNumber(first: number, rest: number): Mac {
  const bytes = [first & 0xff, first >>> 8, rest & 0xff, (rest >>> 8) & 0xff, (rest >>> 16) & 0xff, rest >>> 24];
  return mac(bytes);
}
function sourceOf(key: Int32Array): Mac {
  return macNumber((key[W_ETH + 1]! >>> 16) & 0xffff, key[W_ETH + 2]!);
}
/** 01:80:c2:00:00:00 to :0f: for the bridge itself, neither forwarded nor learned from (other_config:forward-bpdu is off). */
function reserved(destination: Mac): boolean {
  return Math.floor(destination.id / 16) === 0x0180c200000;
}
function destinationOf(key: Int32Array): Mac {
  const a = key[W_ETH]!;
  const b = key[W_ETH + 1]!;
  return mac([a & 0xff, (a >>> 8) & 0xff, (a >>> 16) & 0xff, a >>> 24, b & 0xff, (b >>> 8) & 0xff]);
}
function mac(bytes: readonly number[]): Mac {
  const id = bytes.reduce((n, b) => n * 256 + b, 0);
  return {
    id,
    low: id % 4294967296,
    multicast: (bytes[0]! & 1) === 1,
    text: bytes.map((b) => b.toString(16).padStart(2, '0')).join(':'),
  };
}

/** The bridges of one datapath, each with NORMAL alone. */
export class NormalSlowPath implements SlowPath {
  generation = 1;
  private readonly bridges: { readonly bridge: OvsBridge; readonly ofproto: NormalOfproto }[] = [];

  add(bridge: OvsBridge, ofproto: NormalOfproto): void {
    this.bridges.push({ bridge, ofproto });
    bridge.onPorts = {
      added: ({ number }) => {
        ofproto.addPort(number);
        this.generation++;
      },
      removed: ({ number }) => {
        ofproto.removePort(number);
        this.generation++;
      },
    };
    ofproto.refreshAll = () => bridge.datapath.creditAll();
  }
  ofprotoOf(bridge: OvsBridge): NormalOfproto {
    return this.bridges.find((b) => b.bridge === bridge)!.ofproto;
  }
  private at(inPort: number): NormalOfproto | null {
    return this.bridges.find(({ bridge }) => bridge.ports.has(inPort))?.ofproto ?? null;
  }

  upcall({ key, length }: UpcalledPacket, now: number, contextBits: number): Translation | null {
    const ofproto = this.at(key[W_IN_PORT]!);
    if (ofproto === null) return null;
    const { outputs, learned } = ofproto.translate(key, now, contextBits);
    if (learned) this.generation++;
    ofproto.credit(1, length);
    return this.translation(ofproto, key, outputs);
  }
  revalidate(key: Int32Array, now: number): Translation | null {
    const ofproto = this.at(key[W_IN_PORT]!);
    if (ofproto === null || !ofproto.knows(key)) return null;
    return this.translation(ofproto, key, ofproto.outputs(key, now));
  }
  private translation(ofproto: NormalOfproto, key: Int32Array, outputs: Int32Array): Translation {
    const kept = key.slice();
    return {
      actions: Array.from(outputs, (port) => ({ type: 'output', port })),
      mask: NORMAL_MASK,
      install: true,
      slow: null,
      credits: {
        push: (packets, bytes, used) => {
          ofproto.credit(packets, bytes);
          ofproto.refresh(kept, used);
        },
      },
    };
  }
  likelyMask(): Int32Array {
    return NORMAL_MASK;
  }
  controller(): void {}
}
