/**
 * What every bridge is: ports by number, the way in, and the way out of a port with its MTU and offloads. Where a frame goes
 * is for the subclasses: Open vSwitch with its datapaths, the bridge of the Linux kernel.
 */
import { assert } from '../../engine/assert.ts';
import {
  DP_DROP_MALFORMED,
  DP_DROP_MTU,
  DP_INGRESS,
  DP_OUTPUT,
  DP_PORT_ADD,
  DP_PORT_DEL,
  PORT_DROP_REMOVED,
} from '../../engine/events.ts';
import type { Port } from '../host/port.ts';
import { ETH_HLEN } from '../packet/headers.ts';
import { isGso, isPlain } from '../packet/net-header.ts';
import { OFFLOAD_CSUM } from '../packet/offload-flags.ts';
import { XmitOffload } from '../packet/xmit.ts';
import type { Services } from '../services.ts';

export abstract class Forwarder {
  declare readonly name: string;
  declare readonly place: number;
  readonly ports = new Map<number, Port>();
  /** What forwarding one frame costs whoever brings it, ns; more is `debt`. */
  declare readonly packetCost: number;
  /** Time beyond what the caller has paid for: further lookups, checksums and segments in software, ns. */
  debt = 0;
  declare protected readonly services: Services;
  declare protected readonly bridgeBits: number;
  declare private readonly xmit: XmitOffload;
  private byNumber: (Port | undefined)[] = [];

  constructor(services: Services, name: string, place: number, packetCost: number) {
    this.services = services;
    this.name = name;
    this.place = place;
    this.packetCost = packetCost;
    this.bridgeBits = place << 8;
    this.xmit = new XmitOffload(services);
  }

  // ---- ports ----------------------------------------------------------------------------------------------------------
  addPort(port: Port): void {
    this.ports.set(port.number, port);
    port.gone = false;
    this.known(port);
  }
  /** Frames that come in by the port are known to. */
  protected known(port: Port): void {
    this.byNumber[port.number] = port;
  }
  /** A port is plugged into the running bridge, at the recorder's stamp: what is flooded goes to it, too, from now on. */
  plugPort(port: Port, contextBits: number): void {
    this.addPort(port);
    this.services.recorder.event((port.place << 8) | contextBits | DP_PORT_ADD, 0, port.number, 0);
    this.portsChanged(contextBits);
  }
  /**
   * A port is taken out of the running bridge, at the recorder's stamp. What the bridge has learned of it is gone, and what
   * waits at the port itself is dropped, unless it is to come back (`closes` false). Its number is not given to another port.
   */
  removePort(number: number, contextBits: number, closes = true): void {
    const port = this.ports.get(number);
    assert(port !== undefined, `bridge ${this.name} has port ${number}`);
    this.ports.delete(number);
    port.gone = true;
    this.portGone(number);
    const flows = this.portsChanged(contextBits);
    this.services.recorder.event((port.place << 8) | contextBits | DP_PORT_DEL, 0, number, flows);
    if (closes) port.close(contextBits);
  }
  /** Forgets what was learned of a port. */
  protected portGone(_number: number): void {}
  /** After ports have come or gone; returns how many cached flows that removed. */
  protected portsChanged(_contextBits: number): number {
    return 0;
  }
  /** The port that goes by the number, or went: frames that came in by it may still be under way. */
  port(number: number): Port {
    return this.byNumber[number]!;
  }

  /** Place of the bridge that the packet came in by, for events that are no port's. */
  protected bitsOf(_packet: number): number {
    return this.bridgeBits;
  }

  // ---- in -------------------------------------------------------------------------------------------------------------
  /** Records that the packet entered at its port. */
  ingress(packet: number, contextBits: number): void {
    const pool = this.services.pool;
    const inPort = pool.inPort[packet]!;
    this.services.recorder.event(
      (this.port(inPort).place << 8) | contextBits | DP_INGRESS,
      pool.frame[packet]!,
      pool.length[packet]!,
      inPort,
    );
  }
  /** Forwards the packet that entered at its inPort, at the current stamp. It is the bridge's from then on. */
  abstract process(packet: number, contextBits: number): void;

  /** A frame without an Ethernet header. */
  malformed(packet: number, contextBits: number): void {
    this.drop(packet, contextBits, DP_DROP_MALFORMED);
  }
  drop(packet: number, contextBits: number, kind: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(this.bitsOf(packet) | contextBits | kind, frame, pool.length[packet]!, 0);
    frames.dropped(frame, kind);
    pool.release(packet);
  }

  // ---- out ------------------------------------------------------------------------------------------------------------
  /** A copy of the packet with an id of its own, for one more port. */
  protected copyOf(packet: number, length: number, contextBits: number): number {
    const { pool, frames } = this.services;
    const out = pool.clone(packet);
    pool.frame[out] = frames.clone(this.bitsOf(packet) | contextBits, pool.frame[packet]!, length);
    return out;
  }
  /** Outputs the packet to a port: as it is, or as what the port takes. */
  protected output(packet: number, number: number, length: number, contextBits: number): void {
    const { pool, recorder, arena } = this.services;
    const port = this.byNumber[number];
    if (port === undefined || port.gone) {
      // a flow that has not been looked at since
      this.drop(packet, contextBits, PORT_DROP_REMOVED);
      return;
    }
    const base = (port.place << 8) | contextBits;
    recorder.event(base | DP_OUTPUT, pool.frame[packet]!, length, port.number);
    if (length > port.mtu + ETH_HLEN && this.tooLong(packet, port)) {
      recorder.event(base | DP_DROP_MTU, pool.frame[packet]!, length, port.mtu);
      this.services.frames.dropped(pool.frame[packet]!, DP_DROP_MTU);
      pool.release(packet);
      return;
    }
    const slot = pool.slot(packet);
    if (isPlain(arena.u8, slot) || ((port.offloads & OFFLOAD_CSUM) !== 0 && !isGso(arena.u8, slot))) {
      port.transmit(packet, contextBits);
      return;
    }
    const { xmit } = this;
    const n = xmit.prepare(packet, port.offloads, base);
    this.debt += xmit.cost;
    xmit.cost = 0;
    for (let i = 0; i < n; i++) port.transmit(xmit.packets[i]!, contextBits);
  }
  /** Whether a packet beyond the port's MTU with its header is too long for it; one that will be cut is not. */
  private tooLong(packet: number, port: Port): boolean {
    const { pool, arena } = this.services;
    if (isGso(arena.u8, pool.slot(packet))) return false;
    return pool.length[packet]! > port.mtu + ETH_HLEN + this.headroom(packet);
  }
  /** Bytes that a frame may have beyond MTU and Ethernet header. */
  protected abstract headroom(packet: number): number;
}
