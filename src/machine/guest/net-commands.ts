/**
 * The driver's end of the control virtqueue: what each command consists of, and which commands Linux 6.1's virtio_net and
 * DPDK 22.11's PMD send when something is done to the device. Nothing here touches a ring: a command is laid into memory by
 * ControlBuffer, and whoever has the queue adds its chain, kicks, and polls until it is used (Linux spins, too).
 * Linux sends RSS, hashes, statistics and the coalescing of one queue only when somebody asks for them (ethtool), and no
 * driver of a world does: those builders (rssConfig, linuxRss, hashConfig and the like) are for tests.
 *
 * Read first: linux drivers/net/virtio_net.c, virtnet_send_command(); dpdk drivers/net/virtio/virtio_cvq.c.
 */
import {
  andFeatures,
  type Features,
  hasFeature,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
} from '../virtio/features.ts';
import { DUPLEX_FULL, DUPLEX_HALF } from '../wire/virtio-net.ts';
import * as W from '../wire/virtio-net-ctrl.ts';

type Mac = readonly number[];
/** A command: `data` are the segments behind class and command, `resultBytes` the room behind the acknowledgement. */
export interface ControlCommand {
  readonly class: number;
  readonly cmd: number;
  readonly data: readonly Uint8Array[];
  readonly resultBytes: number;
}

// ---- the commands ---------------------------------------------------------------------------------------------------

function command(class_: number, cmd: number, data: readonly Uint8Array[] = [], resultBytes = 0): ControlCommand {
  return { class: class_, cmd, data, resultBytes };
}
function bytesOf(length: number, fill: (v: DataView) => void): Uint8Array {
  const v = new DataView(new ArrayBuffer(length));
  fill(v);
  return new Uint8Array(v.buffer);
}
const le16Bytes = (n: number): Uint8Array => bytesOf(2, (v) => v.setUint16(0, n, true));

/** `cmd`: VIRTIO_NET_CTRL_RX_PROMISC to _NOBCAST. */
export const rxMode = (cmd: number, on: boolean): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_RX, cmd, [Uint8Array.of(on ? 1 : 0)]);
/** One segment for each list: le32 count, then the addresses. */
export function macTableSet(unicast: readonly Mac[], multicast: readonly Mac[]): ControlCommand {
  const list = (macs: readonly Mac[]): Uint8Array =>
    Uint8Array.from([...bytesOf(4, (v) => v.setUint32(0, macs.length, true)), ...macs.flat()]);
  return command(W.VIRTIO_NET_CTRL_MAC, W.VIRTIO_NET_CTRL_MAC_TABLE_SET, [list(unicast), list(multicast)]);
}
export const macAddrSet = (mac: Mac): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_MAC, W.VIRTIO_NET_CTRL_MAC_ADDR_SET, [Uint8Array.from(mac)]);
export const vlanAdd = (vid: number): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_VLAN, W.VIRTIO_NET_CTRL_VLAN_ADD, [le16Bytes(vid)]);
export const vlanDel = (vid: number): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_VLAN, W.VIRTIO_NET_CTRL_VLAN_DEL, [le16Bytes(vid)]);
export const announceAck = (): ControlCommand => command(W.VIRTIO_NET_CTRL_ANNOUNCE, W.VIRTIO_NET_CTRL_ANNOUNCE_ACK);
export const vqPairsSet = (pairs: number): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_MQ, W.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, [le16Bytes(pairs)]);
/** `offloads`: the feature bits of the receive offloads that are to be on. */
export const guestOffloadsSet = (offloads: Features): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_GUEST_OFFLOADS, W.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, [
    bytesOf(8, (v) => {
      v.setUint32(0, offloads.lo, true);
      v.setUint32(4, offloads.hi, true);
    }),
  ]);
export interface RssCommand {
  readonly hashTypes: number;
  /** Receive queue of each entry; a power of two of them. */
  readonly table: readonly number[];
  readonly unclassifiedQueue: number;
  readonly queuePairs: number;
  readonly key: Uint8Array;
}
/** Four segments, as linux virtnet_commit_rss_command() has them: fixed fields, table, the two before the key, key. */
export function rssConfig(c: RssCommand): ControlCommand {
  const s = W.virtio_net_rss_config;
  const fixed = bytesOf(s.SIZE, (v) => {
    s.hash_types.set(v, 0, c.hashTypes);
    s.indirection_table_mask.set(v, 0, c.table.length - 1);
    s.unclassified_queue.set(v, 0, c.unclassifiedQueue);
  });
  const table = bytesOf(2 * c.table.length, (v) => {
    for (const [i, queue] of c.table.entries()) v.setUint16(2 * i, queue, true);
  });
  const tail = bytesOf(3, (v) => {
    v.setUint16(0, c.queuePairs, true);
    v.setUint8(2, c.key.length);
  });
  return command(W.VIRTIO_NET_CTRL_MQ, W.VIRTIO_NET_CTRL_MQ_RSS_CONFIG, [fixed, table, tail, c.key]);
}
export function hashConfig(hashTypes: number, key: Uint8Array): ControlCommand {
  const s = W.virtio_net_hash_config;
  const fixed = bytesOf(s.SIZE, (v) => {
    s.hash_types.set(v, 0, hashTypes);
    s.hash_key_length.set(v, 0, key.length);
  });
  return command(W.VIRTIO_NET_CTRL_MQ, W.VIRTIO_NET_CTRL_MQ_HASH_CONFIG, [fixed, key]);
}
export const hashTunnelSet = (types: number): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_HASH_TUNNEL, W.VIRTIO_NET_CTRL_HASH_TUNNEL_SET, [
    bytesOf(4, (v) => v.setUint32(0, types, true)),
  ]);
/** `cmd`: VIRTIO_NET_CTRL_NOTF_COAL_TX_SET or _RX_SET. */
export const coalSet = (cmd: number, usecs: number, packets: number): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_NOTF_COAL, cmd, [
    bytesOf(W.virtio_net_ctrl_coal.SIZE, (v) => {
      W.virtio_net_ctrl_coal.max_packets.set(v, 0, packets);
      W.virtio_net_ctrl_coal.max_usecs.set(v, 0, usecs);
    }),
  ]);
export const coalVqSet = (queue: number, usecs: number, packets: number): ControlCommand =>
  command(W.VIRTIO_NET_CTRL_NOTF_COAL, W.VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET, [
    bytesOf(W.virtio_net_ctrl_coal_vq.SIZE, (v) => {
      W.virtio_net_ctrl_coal_vq.vq_index.set(v, 0, queue);
      W.virtio_net_ctrl_coal_vq.max_packets.set(v, 0, packets);
      W.virtio_net_ctrl_coal_vq.max_usecs.set(v, 0, usecs);
    }),
  ]);
export const coalVqGet = (queue: number): ControlCommand =>
  command(
    W.VIRTIO_NET_CTRL_NOTF_COAL,
    W.VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET,
    [bytesOf(4, (v) => v.setUint16(0, queue, true))],
    W.virtio_net_ctrl_coal.SIZE,
  );
export const statsQuery = (): ControlCommand => command(W.VIRTIO_NET_CTRL_STATS, W.VIRTIO_NET_CTRL_STATS_QUERY, [], 8);
/** Two words of type bits per queue, and the room for the answers. */
export function statsGet(
  asks: readonly { readonly queue: number; readonly low: number; readonly high: number }[],
  resultBytes: number,
): ControlCommand {
  const q = W.virtio_net_ctrl_queue_stats;
  const data = bytesOf(q.SIZE * asks.length, (v) => {
    for (const [i, ask] of asks.entries()) {
      q.vq_index.set(v, i * q.SIZE, ask.queue);
      q.types_low.set(v, i * q.SIZE, ask.low);
      q.types_high.set(v, i * q.SIZE, ask.high);
    }
  });
  return command(W.VIRTIO_NET_CTRL_STATS, W.VIRTIO_NET_CTRL_STATS_GET, [data], resultBytes);
}

// ---- in memory ------------------------------------------------------------------------------------------------------

/** Header, answer and padding: struct control_buf of Linux, and the first 8 bytes of DPDK's zone. */
const ACK_AT = 2;
const DATA_AT = 8;
/** Header, four segments of data, acknowledgement and result at most. */
const SEGMENTS_MAX = 8;

/** Guest memory for one command at a time, and the chain that describes it. */
export class ControlBuffer {
  /** For DriverQueue.addChain(): `readable` segments, then `writable` ones. */
  readonly gpas = new Int32Array(SEGMENTS_MAX);
  readonly lengths = new Int32Array(SEGMENTS_MAX);
  readable = 0;
  writable = 0;
  readonly #u8: Uint8Array;
  readonly #at: number;
  readonly #gpa: number;
  readonly #bytes: number;
  #resultAt = 0;

  /** `bytes` of guest memory at `gpa`, which lie at arena offset `at`. */
  constructor(u8: Uint8Array, at: number, gpa: number, bytes: number) {
    this.#u8 = u8;
    this.#at = at;
    this.#gpa = gpa;
    this.#bytes = bytes;
  }
  /**
   * Writes a command: class and command in a segment, each piece of data in one, the acknowledgement (set to an error, so that
   * a device that writes none is not believed) in one, and the result in the last. False where it is too long.
   */
  lay(c: ControlCommand): boolean {
    let end = DATA_AT;
    const places = c.data.map((data) => {
      const place = end;
      end += Math.ceil(data.length / 8) * 8;
      return place;
    });
    this.#resultAt = end;
    if (end + c.resultBytes > this.#bytes || c.data.length > SEGMENTS_MAX - 3) return false;
    this.#u8[this.#at] = c.class;
    this.#u8[this.#at + 1] = c.cmd;
    this.#u8[this.#at + ACK_AT] = W.VIRTIO_NET_ERR;
    for (const [i, data] of c.data.entries()) this.#u8.set(data, this.#at + places[i]!);
    this.readable = 0;
    this.#segment(0, 0, W.virtio_net_ctrl_hdr.SIZE);
    this.readable = 1;
    for (const [i, data] of c.data.entries())
      if (data.length > 0) this.#segment(this.readable++, places[i]!, data.length);
    this.#segment(this.readable, ACK_AT, 1);
    this.writable = 1;
    if (c.resultBytes > 0) this.#segment(this.readable + this.writable++, this.#resultAt, c.resultBytes);
    return true;
  }
  #segment(i: number, at: number, length: number): void {
    this.gpas[i] = this.#gpa + at;
    this.lengths[i] = length;
  }
  /** What the device answered: VIRTIO_NET_OK or not. */
  get ok(): boolean {
    return this.#u8[this.#at + ACK_AT] === W.VIRTIO_NET_OK;
  }
  /** The result of so many bytes; empty where the answer was an error, for it means nothing then. */
  result(bytes: number): Uint8Array {
    return this.ok ? this.#u8.slice(this.#at + this.#resultAt, this.#at + this.#resultAt + bytes) : new Uint8Array(0);
  }
}

// ---- what drivers send, and when ------------------------------------------------------------------------------------

/** What a network interface has been told to be: the source of a driver's commands. */
export interface InterfaceState {
  readonly mac: Mac;
  readonly promisc: boolean;
  readonly allmulti: boolean;
  /** Further unicast addresses. */
  readonly unicast: readonly Mac[];
  /** Groups in the order in which they were joined. */
  readonly multicast: readonly Mac[];
  readonly queuePairs: number;
  /** max_virtqueue_pairs of the device: a number of pairs beyond it is not asked for (virtnet_set_channels()). */
  readonly maxQueuePairs: number;
  /** Receive offloads that are to be on: `gro_hw` of ethtool off leaves GUEST_CSUM alone. */
  readonly offloads: Features;
  /** The id that vlan_add and vlan_del are about. */
  readonly vid: number;
}
type Step =
  | 'queue_pairs'
  | 'rx_mode'
  | 'vlan0_add'
  | 'vlan0_del'
  | 'vlan_add'
  | 'vlan_del'
  | 'mac'
  | 'offloads'
  | 'announce';
const twice: readonly Step[] = ['rx_mode', 'rx_mode'];
/**
 * Linux 6.1, per action, as recorded for a guest without IPv6: an RX mode change runs twice where the stack changes a flag and
 * then the list, and VLAN 0 is added when the interface goes up (net/8021q/vlan.c, vlan_device_event()).
 */
export const LINUX_SEQUENCES = {
  probe: ['queue_pairs'],
  link_up: ['rx_mode', 'rx_mode', 'vlan0_add'],
  link_down: ['rx_mode', 'vlan0_del'],
  unbind: ['vlan0_del'],
  mac_change: ['mac'],
  promisc: twice,
  allmulti: twice,
  vlan_add: ['vlan_add', ...twice],
  vlan_up: [...twice, ...twice],
  vlan_del: [...twice, 'vlan_del', ...twice],
  offloads: ['offloads'],
  announce: ['announce'],
  channels: ['queue_pairs'],
  group: ['rx_mode'],
} as const satisfies Record<string, readonly Step[]>;
export type LinuxAction = keyof typeof LINUX_SEQUENCES;

const pairsExist = (s: InterfaceState): boolean => s.queuePairs >= 1 && s.queuePairs <= s.maxQueuePairs;
/** linux virtnet_set_rx_mode(). */
function linuxRxMode(s: InterfaceState): ControlCommand[] {
  return [
    rxMode(W.VIRTIO_NET_CTRL_RX_PROMISC, s.promisc),
    rxMode(W.VIRTIO_NET_CTRL_RX_ALLMULTI, s.allmulti),
    macTableSet(s.unicast, s.multicast),
  ];
}
/**
 * DEVIATION: Linux and DPDK look for VIRTIO_NET_F_CTRL_MAC_ADDR alone; the specification wants no command of this class without
 * VIRTIO_NET_F_CTRL_RX (virtio 1.4 §5.1.9.5.2.2).
 */
const setsMac = (accepted: Features): boolean =>
  hasFeature(accepted, VIRTIO_NET_F_CTRL_MAC_ADDR) && hasFeature(accepted, VIRTIO_NET_F_CTRL_RX);
function linuxStep(step: Step, s: InterfaceState, accepted: Features): ControlCommand[] {
  const has = (bit: number): boolean => hasFeature(accepted, bit);
  switch (step) {
    case 'queue_pairs':
      return has(VIRTIO_NET_F_MQ) && pairsExist(s) ? [vqPairsSet(s.queuePairs)] : [];
    case 'rx_mode':
      return has(VIRTIO_NET_F_CTRL_RX) ? linuxRxMode(s) : [];
    case 'vlan0_add':
      return has(VIRTIO_NET_F_CTRL_VLAN) ? [vlanAdd(0)] : [];
    case 'vlan0_del':
      return has(VIRTIO_NET_F_CTRL_VLAN) ? [vlanDel(0)] : [];
    case 'vlan_add':
      return has(VIRTIO_NET_F_CTRL_VLAN) ? [vlanAdd(s.vid)] : [];
    case 'vlan_del':
      return has(VIRTIO_NET_F_CTRL_VLAN) ? [vlanDel(s.vid)] : [];
    case 'mac':
      return setsMac(accepted) ? [macAddrSet(s.mac)] : [];
    case 'offloads':
      return has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ? [guestOffloadsSet(andFeatures(s.offloads, accepted))] : [];
    case 'announce':
      return has(VIRTIO_NET_F_GUEST_ANNOUNCE) ? [announceAck()] : [];
  }
}
/**
 * The commands that Linux sends for an action, in order; none of a feature that was not accepted. When the link goes up the
 * groups are joined one after the other, so the first RX mode has none of them and each further one has one more.
 */
export function linuxCommands(action: LinuxAction, s: InterfaceState, accepted: Features): ControlCommand[] {
  if (!hasFeature(accepted, VIRTIO_NET_F_CTRL_VQ)) return [];
  const steps: readonly Step[] = LINUX_SEQUENCES[action];
  if (action !== 'link_up') return steps.flatMap((step) => linuxStep(step, s, accepted));
  const joined = [s.multicast.slice(0, 0), ...s.multicast.map((_, i) => s.multicast.slice(0, i + 1))];
  const modes = joined.flatMap((multicast) => linuxStep('rx_mode', { ...s, multicast }, accepted));
  return [...modes, ...linuxStep('vlan0_add', s, accepted)];
}

/** What ethtool calls rx-usecs and rx-frames, tx-usecs and tx-frames. */
export interface CoalescingSettings {
  readonly rx: { readonly usecs: number; readonly packets: number };
  readonly tx: { readonly usecs: number; readonly packets: number };
}
/** `ethtool -C` (linux 6.1 virtnet_send_notf_coal_cmds()): transmit first. */
export function linuxCoalesce({ rx, tx }: CoalescingSettings, accepted: Features): ControlCommand[] {
  if (!hasFeature(accepted, VIRTIO_NET_F_NOTF_COAL)) return [];
  return [
    coalSet(W.VIRTIO_NET_CTRL_NOTF_COAL_TX_SET, tx.usecs, tx.packets),
    coalSet(W.VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, rx.usecs, rx.packets),
  ];
}

/**
 * What DPDK 22.11's PMD sends when its port is started (dpdk virtio_dev_start(), lib/ethdev rte_ethdev.c,
 * eth_dev_config_restore()): pairs where there are several, its own address, and both receive modes, on or off. As read, not
 * recorded.
 */
export function dpdkStartCommands(s: InterfaceState, accepted: Features): ControlCommand[] {
  const has = (bit: number): boolean => hasFeature(accepted, bit);
  if (!has(VIRTIO_NET_F_CTRL_VQ)) return [];
  const out: ControlCommand[] = [];
  if (has(VIRTIO_NET_F_MQ) && s.queuePairs > 1 && pairsExist(s)) out.push(vqPairsSet(s.queuePairs));
  if (setsMac(accepted)) out.push(macAddrSet(s.mac));
  if (has(VIRTIO_NET_F_CTRL_RX)) {
    out.push(rxMode(W.VIRTIO_NET_CTRL_RX_PROMISC, s.promisc), rxMode(W.VIRTIO_NET_CTRL_RX_ALLMULTI, s.allmulti));
  }
  return out;
}

// ---- by hand (ethtool) ----------------------------------------------------------------------------------------------

/** What the device says about RSS in its configuration. */
export interface RssLimits {
  readonly rss_max_key_size: number;
  readonly rss_max_indirection_table_length: number;
  readonly supported_hash_types: number;
}
/** Hash types that Linux knows: the first six, without the extended ones (linux virtnet_probe()). */
const LINUX_HASH_TYPES = 0x3f;
/**
 * The RSS configuration that Linux has after the probe and sends when somebody changes a part of it (virtnet_init_default_rss(),
 * virtnet_set_rxfh(), virtnet_set_rxnfc()): the pairs in use one after the other through the whole table. Not sent by itself.
 */
export function linuxRss(
  limits: RssLimits,
  queuePairs: number,
  key: Uint8Array,
  hashTypes = LINUX_HASH_TYPES,
): RssCommand {
  // a length that is no power of two cannot be asked for
  const entries = 2 ** Math.floor(Math.log2(limits.rss_max_indirection_table_length));
  return {
    hashTypes: hashTypes & LINUX_HASH_TYPES & limits.supported_hash_types,
    table: Array.from({ length: entries }, (_, i) => i % queuePairs),
    unclassifiedQueue: 0,
    queuePairs,
    key: key.slice(0, limits.rss_max_key_size),
  };
}
/** linux ethtool: what the driver takes speed and duplex for (virtnet_update_settings()); null is unknown. */
export function linkSettings(speed: number, duplex: number): { speed: number | null; duplex: 'half' | 'full' | null } {
  return {
    speed: speed <= 0x7fff_ffff ? speed : null,
    duplex: duplex === DUPLEX_HALF ? 'half' : duplex === DUPLEX_FULL ? 'full' : null,
  };
}
