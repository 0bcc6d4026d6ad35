/** A bridge: its ports, its slow path and its datapath's actions. The datapaths (kernel, netdev) find the flow. */
import { assert } from '../../engine/assert.ts';
import {
  DP_DROP_MALFORMED,
  DP_DROP_MTU,
  DP_DROP_NO_OUTPUT,
  DP_INGRESS,
  DP_OUTPUT,
  DP_PORT_ADD,
  DP_PORT_DEL,
  DP_REVALIDATE,
} from '../../engine/events.ts';
import type { Port } from '../host/port.ts';
import { ETH_HLEN, ETH_P_8021AD, ETH_P_8021Q, VLAN_HLEN } from '../packet/headers.ts';
import { isGso, isPlain } from '../packet/net-header.ts';
import { OFFLOAD_CSUM } from '../packet/offload-flags.ts';
import { XmitOffload } from '../packet/xmit.ts';
import type { Services } from '../services.ts';
import { KEY_IN_PORT } from './flow-key.ts';
import type { Flow, MegaflowTable } from './megaflow-table.ts';
import { Ofproto } from './ofproto.ts';

export class Bridge {
  declare readonly name: string;
  declare readonly place: number;
  readonly ports = new Map<number, Port>();
  declare readonly ofproto: Ofproto;
  declare protected readonly services: Services;
  declare private readonly bridgeBits: number;
  private byNumber: (Port | undefined)[] = [];
  /** Time beyond what the caller has paid for: further lookups, checksums and segments in software, ns. */
  debt = 0;
  declare private readonly xmit: XmitOffload;

  constructor(
    services: Services,
    name: string,
    place: number,
    options: { readonly macTableSize: number; readonly macAgingSeconds: number },
  ) {
    this.services = services;
    this.name = name;
    this.place = place;
    this.bridgeBits = place << 8;
    this.xmit = new XmitOffload(services);
    this.ofproto = new Ofproto(services.recorder, place, options.macTableSize, options.macAgingSeconds);
  }

  addPort(port: Port): void {
    this.ports.set(port.number, port);
    this.byNumber[port.number] = port;
    this.ofproto.ports.push(port.number);
  }
  /**
   * A port is plugged into the running bridge, at the recorder's stamp: what is flooded goes to it, too, from now on (ovs
   * bridge_run() after `ovs-vsctl add-port`: all flows are revalidated).
   */
  plugPort(port: Port, contextBits: number): void {
    this.addPort(port);
    this.services.recorder.event((port.place << 8) | contextBits | DP_PORT_ADD, 0, port.number, 0);
    this.portsChanged(contextBits);
  }
  /**
   * A port is taken out of the running bridge, at the recorder's stamp. MAC entries and flows that name it are gone (ovs
   * mac_learning_flush of a bundle, bundle_destroy(); revalidators delete flows whose input port is no more), frames that came
   * in by it and still wait for an upcall are dropped when their turn comes, and so is what waits at the port itself. Its
   * number is not given to another port.
   */
  removePort(number: number, contextBits: number): void {
    const port = this.ports.get(number);
    assert(port !== undefined, `bridge ${this.name} has port ${number}`);
    this.ports.delete(number);
    this.ofproto.removePort(number);
    const flows = this.portsChanged(contextBits);
    this.services.recorder.event((port.place << 8) | contextBits | DP_PORT_DEL, 0, number, flows);
    port.close(contextBits);
  }
  /** Translates what is cached again, after ports have come or gone; returns how many flows that removed. */
  protected portsChanged(_contextBits: number): number {
    return 0;
  }
  /** The port that goes by the number, or went: frames that came in by it may still be under way. */
  port(number: number): Port {
    return this.byNumber[number]!;
  }

  /** Removes a flow; what it counted stays with the OpenFlow rule, as revalidators see to it. */
  protected forget(table: MegaflowTable, flow: Flow): void {
    this.ofproto.credit(flow.packets, flow.bytes);
    table.remove(flow);
  }

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

  /** A frame without an Ethernet header. */
  malformed(packet: number, contextBits: number): void {
    this.drop(packet, contextBits, DP_DROP_MALFORMED);
  }
  drop(packet: number, contextBits: number, kind: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(this.bridgeBits | contextBits | kind, frame, pool.length[packet]!, 0);
    frames.dropped(frame, kind);
    pool.release(packet);
  }

  /** Executes a flow's actions on the packet at the current stamp. */
  execute(packet: number, outputs: Int32Array, contextBits: number): void {
    const { pool, frames } = this.services;
    const n = outputs.length;
    if (n === 0) {
      this.drop(packet, contextBits, DP_DROP_NO_OUTPUT);
      return;
    }
    const length = pool.length[packet]!;
    for (let i = 0; i < n; i++) {
      const port = this.byNumber[outputs[i]!]!;
      let out = packet;
      if (i < n - 1) {
        out = pool.clone(packet);
        pool.frame[out] = frames.clone(this.bridgeBits | contextBits, pool.frame[packet]!, length);
      }
      this.output(out, port, length, contextBits);
    }
  }

  /** Outputs the packet to a port: as it is, or as what the port takes. */
  private output(packet: number, port: Port, length: number, contextBits: number): void {
    const { pool, recorder, arena } = this.services;
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
  /**
   * ovs_vport_send() of linux net/openvswitch/vport.c, netdev_dpdk_filter_packet_len() of ovs: a packet that will be cut
   * passes whatever its length, and so does a tag that the MTU does not count.
   */
  private tooLong(packet: number, port: Port): boolean {
    const { pool, arena } = this.services;
    if (isGso(arena.u8, pool.slot(packet))) return false;
    const at = pool.at(packet);
    const type = (arena.u8[at + 12]! << 8) | arena.u8[at + 13]!;
    const tagged = type === ETH_P_8021Q || type === ETH_P_8021AD;
    return pool.length[packet]! > port.mtu + ETH_HLEN + (tagged ? VLAN_HLEN : 0);
  }

  /** The MAC table's ages, as the use of flows made them. */
  protected refresh(flows: Iterable<Flow>): void {
    for (const flow of flows) if (flow.used >= 0) this.ofproto.refresh(flow.key, flow.used);
  }

  /**
   * After the MAC table or the ports changed: translates installed flows again; those whose outputs differ get the new ones. A flow
   * whose source has moved away or was pushed out of the table is removed, so that its next frame is learned from, and so is
   * one whose input port is gone.
   */
  revalidate(flows: Iterable<Flow>, now: number, contextBits: number, remove: (flow: Flow) => void): void {
    this.refresh(flows);
    for (const flow of [...flows]) {
      if (!this.ports.has(flow.key[KEY_IN_PORT]!) || !this.ofproto.knows(flow.key)) {
        remove(flow);
        this.services.recorder.event(this.bridgeBits | contextBits | DP_REVALIDATE, 0, flow.id, 0);
        continue;
      }
      const outputs = this.ofproto.outputs(flow.key, now);
      if (outputs.length === flow.outputs.length && outputs.every((p, i) => p === flow.outputs[i])) continue;
      flow.outputs = outputs;
      this.services.recorder.event(this.bridgeBits | contextBits | DP_REVALIDATE, 0, flow.id, outputs.length);
    }
  }
}
