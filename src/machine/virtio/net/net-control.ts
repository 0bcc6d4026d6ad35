/**
 * The device's end of the control virtqueue: every command of virtio 1.4 §5.1.9.5 that can be offered, and the state that it
 * sets. Runs in QEMU's main loop, never per frame.
 *
 * A guest can put anything there. Every chain with a writable byte gets an acknowledgement in the first one, VIRTIO_NET_OK or
 * VIRTIO_NET_ERR, and a command that gets an error has changed nothing. A chain without a writable byte cannot be answered and
 * goes back with length 0.
 *
 * DEVIATION: QEMU puts the device into DEVICE_NEEDS_RESET for a chain without header or room for an answer, takes what
 * follows the data of a receive mode, VLAN or queue pair command as not there, and switches RSS off before it looks at a
 * configuration that it then refuses.
 */
import {
  VIRTIO_NET_CTRL_ANNOUNCE,
  VIRTIO_NET_CTRL_ANNOUNCE_ACK,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
  VIRTIO_NET_CTRL_HASH_TUNNEL,
  VIRTIO_NET_CTRL_HASH_TUNNEL_SET,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MAC_TABLE_SET,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_HASH_CONFIG,
  VIRTIO_NET_CTRL_MQ_RSS_CONFIG,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_CTRL_NOTF_COAL,
  VIRTIO_NET_CTRL_NOTF_COAL_RX_SET,
  VIRTIO_NET_CTRL_NOTF_COAL_TX_SET,
  VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET,
  VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_CTRL_RX_ALLMULTI,
  VIRTIO_NET_CTRL_RX_ALLUNI,
  VIRTIO_NET_CTRL_RX_NOBCAST,
  VIRTIO_NET_CTRL_RX_NOMULTI,
  VIRTIO_NET_CTRL_RX_NOUNI,
  VIRTIO_NET_CTRL_RX_PROMISC,
  VIRTIO_NET_CTRL_STATS,
  VIRTIO_NET_CTRL_STATS_GET,
  VIRTIO_NET_CTRL_STATS_QUERY,
  VIRTIO_NET_CTRL_VLAN,
  VIRTIO_NET_CTRL_VLAN_ADD,
  VIRTIO_NET_CTRL_VLAN_DEL,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
  virtio_net_ctrl_coal,
  virtio_net_ctrl_coal_vq,
  virtio_net_ctrl_hdr,
  virtio_net_ctrl_queue_stats,
} from '../../wire/virtio-net-ctrl.ts';
import {
  andFeatures,
  type Features,
  featuresOf,
  hasFeature,
  isSubset,
  NO_FEATURES,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_DEVICE_STATS,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
} from '../features.ts';
import type { Chain, DeviceQueue, Segment } from '../queue/device-queue.ts';
import { gatherBytes, scatterBytes, totalBytes } from './control-bytes.ts';
import { NetCoalescing } from './net-coalescing.ts';
import { type NetConfig, SUPPORTED_TUNNEL_TYPES } from './net-config.ts';
import { MAC_TABLE_ENTRIES, MAX_VLAN, NetFilter } from './net-filter.ts';
import { CVQ_COMMAND_NUM, CVQ_OK_NUM, NetStats, SUPPORTED_STATS } from './net-stats.ts';
import { Rss } from './rss.ts';
import { parseHashConfig, parseRssConfig } from './rss-config.ts';

/** What GUEST_OFFLOADS_SET may switch: virtio 1.4 §5.1.9.5.8. */
export const GUEST_OFFLOADS: Features = featuresOf(
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_RSC_EXT,
);
/** class and cmd of a chain that had none. */
export const NO_COMMAND = 0xff;
/** Longest data of a command but MAC_TABLE_SET: 64 queues' statistics. A longer one is refused. */
const DATA_MAX = 1024;
const MAC_BYTES = 6;
const COUNT_BYTES = 4;
const NOTHING = new Uint8Array(0);

/** Told when a command has taken effect, before its buffer is used. */
export interface NetControlHooks {
  /** So many queue pairs are in use now. */
  onQueuePairs?(pairs: number): void;
  /** The device's address is another one: configuration has it already. */
  onMac?(): void;
  /** Receive offloads that are on now. */
  onOffloads?(offloads: Features): void;
  onAnnounceAck?(): void;
  /** The receive filter is another one. */
  onFilter?(): void;
  /** Steering by hash, or reports of it, was configured or switched off. */
  onRss?(): void;
  onCoalescing?(queue: number, usecs: number, packets: number): void;
}
export interface NetControlOptions {
  readonly config: NetConfig;
  readonly hooks?: NetControlHooks;
  /** The driver has enabled the virtqueue and is not resetting it; default: every one that there is. */
  readonly queueEnabled?: (queue: number) => boolean;
}

export class NetControl {
  readonly filter = new NetFilter();
  readonly rss = new Rss();
  readonly coalescing: NetCoalescing;
  readonly stats: NetStats;
  /** Receive offloads that are on. */
  offloads: Features = NO_FEATURES;
  /** Pairs in use; frames come on these only. */
  queuePairs = 1;
  /** Of the chain that execute() took last. */
  class = NO_COMMAND;
  cmd = NO_COMMAND;
  ack = VIRTIO_NET_OK;
  readonly #config: NetConfig;
  readonly #hooks: NetControlHooks;
  readonly #enabled: (queue: number) => boolean;
  #accepted: Features = NO_FEATURES;
  // the command that is being executed
  readonly #data = new Uint8Array(DATA_MAX);
  readonly #view = new DataView(this.#data.buffer);
  #length = 0;
  #room = 0;
  #result: Uint8Array = NOTHING;

  constructor(options: NetControlOptions) {
    this.#config = options.config;
    this.#hooks = options.hooks ?? {};
    this.#enabled = options.queueEnabled ?? (() => true);
    this.coalescing = new NetCoalescing(2 * this.#config.maxQueuePairs);
    this.stats = new NetStats(2 * this.#config.maxQueuePairs + 1);
    this.reset();
  }
  /** Device reset: as when it was made. Puts the configuration back, too. */
  reset(): void {
    this.#accepted = NO_FEATURES;
    this.#config.reset();
    this.filter.reset(this.#config.mac);
    this.rss.reset();
    this.coalescing.reset();
    this.stats.reset();
    this.offloads = NO_FEATURES;
    this.queuePairs = 1;
  }
  /** The driver has accepted features (FEATURES_OK, or a legacy driver's write of them). */
  setFeatures(accepted: Features): void {
    this.#accepted = accepted;
    this.filter.setFeatures(accepted);
    this.offloads = andFeatures(accepted, GUEST_OFFLOADS);
  }
  /** Pairs that the driver may use: more than one with VIRTIO_NET_F_MQ or VIRTIO_NET_F_RSS only. */
  get maxPairs(): number {
    return this.#has(VIRTIO_NET_F_MQ) || this.#has(VIRTIO_NET_F_RSS) ? this.#config.maxQueuePairs : 1;
  }
  /** Index of the control queue, behind the pairs. */
  get controlQueue(): number {
    return 2 * this.maxPairs;
  }
  #has(bit: number): boolean {
    return hasFeature(this.#accepted, bit);
  }

  /**
   * Executes the command of a chain and writes acknowledgement and result. Returns the bytes written, for the used entry: 0
   * where there is no room for an answer. `class`, `cmd` and `ack` tell what it was.
   */
  execute(chain: Pick<Chain, 'readable' | 'writable'>, u8: Uint8Array): number {
    const header = new Uint8Array(virtio_net_ctrl_hdr.SIZE);
    const length = totalBytes(chain.readable);
    const whole = length >= header.length;
    if (whole) gatherBytes(u8, chain.readable, 0, header.length, header);
    this.class = whole ? header[0]! : NO_COMMAND;
    this.cmd = whole ? header[1]! : NO_COMMAND;
    this.#room = totalBytes(chain.writable);
    this.#result = NOTHING;
    this.ack = VIRTIO_NET_ERR;
    if (this.#room === 0) return 0;
    const cvq = 2 * this.#config.maxQueuePairs;
    this.stats.add(cvq, CVQ_COMMAND_NUM, 1);
    if (whole && this.#run(chain.readable, length - header.length, u8)) {
      this.ack = VIRTIO_NET_OK;
      this.stats.add(cvq, CVQ_OK_NUM, 1);
    }
    const answer = new Uint8Array(1 + (this.ack === VIRTIO_NET_OK ? this.#result.length : 0));
    answer[0] = this.ack;
    if (answer.length > 1) answer.set(this.#result, 1);
    return scatterBytes(u8, chain.writable, 0, answer);
  }
  #run(readable: readonly Segment[], length: number, u8: Uint8Array): boolean {
    const table = this.class === VIRTIO_NET_CTRL_MAC && this.cmd === VIRTIO_NET_CTRL_MAC_TABLE_SET;
    if (table) return this.#macTable(readable, length, u8);
    if (length > DATA_MAX) return false;
    this.#length = gatherBytes(u8, readable, virtio_net_ctrl_hdr.SIZE, length, this.#data);
    switch (this.class) {
      case VIRTIO_NET_CTRL_RX:
        return this.#rxMode();
      case VIRTIO_NET_CTRL_MAC:
        return this.cmd === VIRTIO_NET_CTRL_MAC_ADDR_SET && this.#macAddress();
      case VIRTIO_NET_CTRL_VLAN:
        return this.#vlan();
      case VIRTIO_NET_CTRL_ANNOUNCE:
        return this.cmd === VIRTIO_NET_CTRL_ANNOUNCE_ACK && this.#announceAck();
      case VIRTIO_NET_CTRL_MQ:
        return this.#mq();
      case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
        return this.cmd === VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET && this.#guestOffloads();
      case VIRTIO_NET_CTRL_NOTF_COAL:
        return this.#coalesce();
      case VIRTIO_NET_CTRL_HASH_TUNNEL:
        return this.cmd === VIRTIO_NET_CTRL_HASH_TUNNEL_SET && this.#hashTunnel();
      case VIRTIO_NET_CTRL_STATS:
        return this.#statistics();
      default:
        return false;
    }
  }

  // ---- receive filter -------------------------------------------------------------------------------------------------

  #rxMode(): boolean {
    const f = this.filter;
    const extra = this.cmd > VIRTIO_NET_CTRL_RX_ALLMULTI;
    if (!this.#has(extra ? VIRTIO_NET_F_CTRL_RX_EXTRA : VIRTIO_NET_F_CTRL_RX) || this.#length !== 1) return false;
    const on = this.#data[0] !== 0;
    if (this.cmd === VIRTIO_NET_CTRL_RX_PROMISC) f.promisc = on;
    else if (this.cmd === VIRTIO_NET_CTRL_RX_ALLMULTI) f.allmulti = on;
    else if (this.cmd === VIRTIO_NET_CTRL_RX_ALLUNI) f.alluni = on;
    else if (this.cmd === VIRTIO_NET_CTRL_RX_NOMULTI) f.nomulti = on;
    else if (this.cmd === VIRTIO_NET_CTRL_RX_NOUNI) f.nouni = on;
    else if (this.cmd === VIRTIO_NET_CTRL_RX_NOBCAST) f.nobcast = on;
    else return false;
    this.#hooks.onFilter?.();
    return true;
  }
  /** qemu virtio_net_handle_mac(): a list that does not fit makes the table overflow, and its addresses are not looked at. */
  #macTable(readable: readonly Segment[], length: number, u8: Uint8Array): boolean {
    if (!this.#has(VIRTIO_NET_F_CTRL_RX)) return false;
    const macs = new Uint8Array(MAC_TABLE_ENTRIES * MAC_BYTES);
    const start = virtio_net_ctrl_hdr.SIZE;
    const count = (at: number): number =>
      at + COUNT_BYTES <= length && gatherBytes(u8, readable, start + at, COUNT_BYTES, this.#data) === COUNT_BYTES
        ? this.#view.getUint32(0, true)
        : -1;
    const unicast = count(0);
    const second = COUNT_BYTES + unicast * MAC_BYTES;
    const multicast = unicast < 0 ? -1 : count(second);
    if (multicast < 0 || second + COUNT_BYTES + multicast * MAC_BYTES !== length) return false;
    const uniOverflow = unicast > MAC_TABLE_ENTRIES;
    const firstMulti = uniOverflow ? 0 : unicast;
    const multiOverflow = multicast > MAC_TABLE_ENTRIES - firstMulti;
    const inUse = firstMulti + (multiOverflow ? 0 : multicast);
    gatherBytes(u8, readable, start + COUNT_BYTES, firstMulti * MAC_BYTES, macs);
    const rest = macs.subarray(firstMulti * MAC_BYTES);
    gatherBytes(u8, readable, start + second + COUNT_BYTES, (inUse - firstMulti) * MAC_BYTES, rest);
    const f = this.filter;
    f.macs.set(macs);
    f.inUse = inUse;
    f.firstMulti = firstMulti;
    f.uniOverflow = uniOverflow;
    f.multiOverflow = multiOverflow;
    this.#hooks.onFilter?.();
    return true;
  }
  #macAddress(): boolean {
    if (!this.#has(VIRTIO_NET_F_CTRL_MAC_ADDR) || this.#length !== MAC_BYTES) return false;
    this.#config.setMac(this.#data, 0);
    this.filter.mac.set(this.#data.subarray(0, MAC_BYTES));
    this.#hooks.onMac?.();
    return true;
  }
  #vlan(): boolean {
    if (!this.#has(VIRTIO_NET_F_CTRL_VLAN) || this.#length !== 2) return false;
    if (this.cmd !== VIRTIO_NET_CTRL_VLAN_ADD && this.cmd !== VIRTIO_NET_CTRL_VLAN_DEL) return false;
    const vid = this.#view.getUint16(0, true);
    if (vid >= MAX_VLAN) return false;
    this.filter.setVlan(vid, this.cmd === VIRTIO_NET_CTRL_VLAN_ADD);
    this.#hooks.onFilter?.();
    return true;
  }
  #announceAck(): boolean {
    if (!this.#has(VIRTIO_NET_F_GUEST_ANNOUNCE) || this.#length !== 0 || !this.#config.announcing) return false;
    this.#config.setAnnounce(false);
    this.#hooks.onAnnounceAck?.();
    return true;
  }

  // ---- queues, steering, offloads -------------------------------------------------------------------------------------

  #mq(): boolean {
    if (this.cmd === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) {
      if (!this.#has(VIRTIO_NET_F_MQ) || this.#length !== 2) return false;
      const pairs = this.#view.getUint16(0, true);
      if (pairs < 1 || pairs > this.maxPairs) return false;
      this.rss.disable();
      this.#setPairs(pairs);
    } else if (this.cmd === VIRTIO_NET_CTRL_MQ_RSS_CONFIG) {
      const c = this.#has(VIRTIO_NET_F_RSS) ? parseRssConfig(this.#view, this.#length, this.maxPairs) : null;
      if (c === null) return false;
      if (c.key.length === 0) this.rss.disable();
      else this.rss.configure(c.hashTypes, c.table, c.unclassifiedQueue, c.key);
      this.#setPairs(c.queuePairs);
    } else if (this.cmd === VIRTIO_NET_CTRL_MQ_HASH_CONFIG) {
      const c = this.#has(VIRTIO_NET_F_HASH_REPORT) ? parseHashConfig(this.#view, this.#length) : null;
      if (c === null) return false;
      if (c.key.length === 0) this.rss.disable();
      else this.rss.configure(c.hashTypes, null, 0, c.key);
    } else return false;
    this.#hooks.onRss?.();
    return true;
  }
  #setPairs(pairs: number): void {
    this.queuePairs = pairs;
    this.#hooks.onQueuePairs?.(pairs);
  }
  #guestOffloads(): boolean {
    if (!this.#has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || this.#length !== 8) return false;
    const wanted = { lo: this.#view.getUint32(0, true), hi: this.#view.getUint32(4, true) };
    if (!isSubset(wanted, andFeatures(this.#accepted, GUEST_OFFLOADS))) return false;
    this.offloads = wanted;
    this.#hooks.onOffloads?.(wanted);
    return true;
  }
  #hashTunnel(): boolean {
    if (!this.#has(VIRTIO_NET_F_HASH_TUNNEL) || this.#length !== 4) return false;
    const types = this.#view.getUint32(0, true);
    if ((types & ~SUPPORTED_TUNNEL_TYPES) !== 0) return false;
    this.rss.tunnelTypes = types;
    this.#hooks.onRss?.();
    return true;
  }

  // ---- coalescing, statistics -----------------------------------------------------------------------------------------

  #coalesce(): boolean {
    const direction = this.cmd === VIRTIO_NET_CTRL_NOTF_COAL_RX_SET ? 0 : 1;
    if (this.cmd === VIRTIO_NET_CTRL_NOTF_COAL_TX_SET || this.cmd === VIRTIO_NET_CTRL_NOTF_COAL_RX_SET) {
      const c = virtio_net_ctrl_coal;
      if (!this.#has(VIRTIO_NET_F_NOTF_COAL) || this.#length !== c.SIZE) return false;
      this.coalescing.setAll(direction, c.max_usecs.get(this.#view, 0), c.max_packets.get(this.#view, 0));
      for (let queue: number = direction; queue < this.controlQueue; queue += 2) this.#coalesced(queue);
      return true;
    }
    const get = this.cmd === VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET;
    if (!get && this.cmd !== VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET) return false;
    const c = virtio_net_ctrl_coal_vq;
    const bytes = get ? c.max_packets.offset : c.SIZE;
    if (!this.#has(VIRTIO_NET_F_VQ_NOTF_COAL) || this.#length !== bytes) return false;
    const queue = c.vq_index.get(this.#view, 0);
    if (queue >= this.controlQueue || !this.#enabled(queue)) return false;
    if (get) {
      if (this.#room < 1 + virtio_net_ctrl_coal.SIZE) return false;
      const out = new DataView(new ArrayBuffer(virtio_net_ctrl_coal.SIZE));
      virtio_net_ctrl_coal.max_packets.set(out, 0, this.coalescing.max_packets[queue]!);
      virtio_net_ctrl_coal.max_usecs.set(out, 0, this.coalescing.max_usecs[queue]!);
      this.#result = new Uint8Array(out.buffer);
      return true;
    }
    this.coalescing.set(queue, c.max_usecs.get(this.#view, 0), c.max_packets.get(this.#view, 0));
    this.#coalesced(queue);
    return true;
  }
  #coalesced(queue: number): void {
    const { max_usecs, max_packets } = this.coalescing;
    this.#hooks.onCoalescing?.(queue, max_usecs[queue]!, max_packets[queue]!);
  }
  #statistics(): boolean {
    if (!this.#has(VIRTIO_NET_F_DEVICE_STATS)) return false;
    if (this.cmd === VIRTIO_NET_CTRL_STATS_QUERY) {
      if (this.#length !== 0 || this.#room < 1 + 8) return false;
      this.#result = new Uint8Array(Uint32Array.from(SUPPORTED_STATS).buffer);
      return true;
    }
    const q = virtio_net_ctrl_queue_stats;
    if (this.cmd !== VIRTIO_NET_CTRL_STATS_GET || this.#length === 0 || this.#length % q.SIZE !== 0) return false;
    let bytes = 0;
    for (let at = 0; at < this.#length; at += q.SIZE) {
      const row = this.#statsRow(q.vq_index.get(this.#view, at));
      const low = q.types_low.get(this.#view, at);
      const high = q.types_high.get(this.#view, at);
      const more = row < 0 ? -1 : this.stats.replyBytes(row, low, high, this.#accepted);
      if (more < 0) return false;
      bytes += more;
    }
    const out = new DataView(new ArrayBuffer(bytes));
    let to = 0;
    for (let at = 0; at < this.#length; at += q.SIZE) {
      const queue = q.vq_index.get(this.#view, at);
      const low = q.types_low.get(this.#view, at);
      to = this.stats.writeReplies(out, to, this.#statsRow(queue), queue, low, q.types_high.get(this.#view, at));
    }
    this.#result = new Uint8Array(out.buffer);
    return true;
  }
  /** Row of a virtqueue among the counters, or -1: the control queue moves with the number of pairs, its row does not. */
  #statsRow(queue: number): number {
    if (queue === this.controlQueue) return 2 * this.#config.maxQueuePairs;
    return queue < this.controlQueue && this.#enabled(queue) ? queue : -1;
  }
}

/** What drainControl() found a chain to be. */
export type CommandSeen = (control: NetControl, head: number, written: number) => void;
/** Told of a chain that was bad: its negative CHAIN_ code, and its head, the queue's size where it had none that could be. */
export type ChainRefused = (code: number, head: number) => void;
/** Commands per call: a guest that keeps adding some cannot hold the main loop. */
export const CONTROL_BUDGET = 64;

/**
 * Takes commands from the control queue and gives each chain back, at most `budget` of them; a bad chain goes back with
 * length 0. Returns how many chains were taken, or a negative RING_ code: the ring itself is broken. Whether the driver wants
 * an interrupt is the caller's question (interruptWanted()).
 */
export function drainControl(
  queue: DeviceQueue,
  control: NetControl,
  u8: Uint8Array,
  seen?: CommandSeen,
  budget = CONTROL_BUDGET,
  refused?: ChainRefused,
): number {
  const chain: Chain = { head: 0, readable: [], writable: [] };
  let taken = 0;
  while (taken < budget) {
    const code = queue.takeChain(chain);
    if (code === 0) break;
    if (queue.broken) return taken > 0 ? taken : code;
    taken++;
    if (code < 0) {
      refused?.(code, chain.head);
      if (chain.head < queue.size) queue.usedChain(chain.head, 0);
      continue;
    }
    const written = control.execute(chain, u8);
    queue.usedChain(chain.head, written);
    seen?.(control, chain.head, written);
  }
  return taken;
}
