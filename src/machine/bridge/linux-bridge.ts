/**
 * The bridge of the Linux kernel: learns where addresses are, forwards to the port of a known one, floods the rest. It is a
 * function on its caller's time (the sender's softirq, the thread that wrote to a tap), as the kernel datapath of Open vSwitch
 * is, and has no caches and no upcalls: each frame is looked up in the FDB.
 *
 * Read first: linux net/bridge/br_input.c, br_handle_frame(), br_handle_frame_finish(); br_forward.c, br_forward(), br_flood().
 *
 * DEVIATION: STP is off, as `ip link add type bridge` leaves it, and so are VLAN filtering, IGMP and MLD snooping; the bridge's
 * own interface is not there, and no local addresses are in the FDB.
 */
import { BR_DROP_NO_OUTPUT, BR_DROP_NOT_FORWARDED, BR_FLOOD, BR_FORWARD, DP_FDB_LEARN } from '../../engine/events.ts';
import type { Port } from '../host/port.ts';
import { ETH_HLEN, VLAN_HLEN } from '../packet/headers.ts';
import type { Services } from '../services.ts';
import { Fdb, type FdbRow, macHigh, macLow } from './fdb.ts';
import { Forwarder } from './forwarder.ts';

/** 01:80:c2:00:00:0x: for the bridge itself (IEEE 802.1D §7.12.6). */
const LINK_LOCAL_HIGH = 0x0180;
const LINK_LOCAL_LOW = 0xc200_0000 | 0;
/** The group address of STP: forwarded while STP is off, so that others may find the loop. */
const STP_GROUP = 0;
const MULTICAST = 0x0100;

export interface LearnedBridge {
  readonly fdb: readonly FdbRow[];
}

export class LinuxBridge extends Forwarder {
  declare readonly fdb: Fdb;
  /** Frames forwarded to one port, and flooded. */
  forwarded = 0;
  flooded = 0;
  /** Port numbers, the newest first (br_add_if() puts it at the head of port_list). */
  private readonly order: number[] = [];

  constructor(
    services: Services,
    name: string,
    place: number,
    options: { readonly macTableSize: number; readonly macAgingSeconds: number },
  ) {
    super(services, name, place, services.ns('linux_bridge_per_packet'));
    this.fdb = new Fdb(options.macTableSize, options.macAgingSeconds * 1e9);
  }

  override addPort(port: Port): void {
    super.addPort(port);
    this.order.push(port.number);
    this.order.sort((a, b) => b - a);
  }
  protected override portGone(number: number): void {
    this.order.splice(this.order.indexOf(number), 1);
    this.fdb.deletePort(number);
  }
  /** is_skb_forwardable(): a VLAN tag has room beside the MTU, whether there is one or not. */
  protected override headroom(): number {
    return VLAN_HLEN;
  }

  /** What the bridge has learned, as plain data. */
  learned(): LearnedBridge {
    return { fdb: this.fdb.all() };
  }
  adopt({ fdb }: LearnedBridge): void {
    this.fdb.adopt(fdb);
  }

  /** br_handle_frame(). */
  override process(packet: number, contextBits: number): void {
    const { pool, recorder, arena } = this.services;
    const { u8 } = arena;
    const length = pool.length[packet]!;
    if (length < ETH_HLEN) return this.malformed(packet, contextBits);
    const at = pool.at(packet);
    const inPort = pool.inPort[packet]!;
    const low = macLow(u8, at);
    const high = macHigh(u8, at);
    const sourceLow = macLow(u8, at + 6);
    const sourceHigh = macHigh(u8, at + 6);
    // is_valid_ether_addr()
    if ((sourceHigh & MULTICAST) !== 0 || (sourceHigh | sourceLow) === 0)
      return this.drop(packet, contextBits, BR_DROP_NOT_FORWARDED);
    if (high === LINK_LOCAL_HIGH && (low & ~0xf) === LINK_LOCAL_LOW && (low & 0xf) !== STP_GROUP)
      return this.drop(packet, contextBits, BR_DROP_NOT_FORWARDED);
    if (this.fdb.update(sourceLow, sourceHigh, inPort, recorder.stamp))
      recorder.event(this.bridgeBits | contextBits | DP_FDB_LEARN, 0, sourceLow, inPort);
    const to = (high & MULTICAST) !== 0 ? 0 : this.fdb.find(low, high, recorder.stamp);
    if (to !== 0) this.forward(packet, to, inPort, length, contextBits);
    else this.flood(packet, inPort, length, contextBits);
  }

  /** br_forward(): not back where it came from. */
  private forward(packet: number, to: number, inPort: number, length: number, contextBits: number): void {
    if (to === inPort) return this.drop(packet, contextBits, BR_DROP_NO_OUTPUT);
    this.forwarded++;
    const frame = this.services.pool.frame[packet]!;
    this.services.recorder.event(this.bridgeBits | contextBits | BR_FORWARD, frame, length, to);
    this.output(packet, to, length, contextBits);
  }
  /** br_flood(): a copy for each port but the last, which gets the frame itself. */
  private flood(packet: number, inPort: number, length: number, contextBits: number): void {
    const { order } = this;
    const ports = order.length - (this.ports.has(inPort) ? 1 : 0);
    if (ports === 0) return this.drop(packet, contextBits, BR_DROP_NO_OUTPUT);
    this.flooded++;
    const frame = this.services.pool.frame[packet]!;
    this.services.recorder.event(this.bridgeBits | contextBits | BR_FLOOD, frame, length, ports);
    let left = ports;
    for (let i = 0; i < order.length; i++) {
      const port = order[i]!;
      if (port === inPort) continue;
      left--;
      this.output(left > 0 ? this.copyOf(packet, length, contextBits) : packet, port, length, contextBits);
    }
  }
}
