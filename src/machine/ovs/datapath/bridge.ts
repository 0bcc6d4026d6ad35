/** A bridge of Open vSwitch: its slow path and its datapath's actions. The datapaths (kernel, netdev) find the flow. */
import { DP_DROP_NO_OUTPUT, DP_REVALIDATE } from '../../../engine/events.ts';
import { Forwarder } from '../../bridge/forwarder.ts';
import type { Port } from '../../host/port.ts';
import { ETH_P_8021AD, ETH_P_8021Q, VLAN_HLEN } from '../../packet/headers.ts';
import type { Services } from '../../services.ts';
import { Ofproto } from '../ofproto/ofproto.ts';
import { KEY_IN_PORT } from './flow-key.ts';
import type { Flow, MegaflowTable } from './megaflow-table.ts';

export abstract class Bridge extends Forwarder {
  declare readonly ofproto: Ofproto;

  constructor(
    services: Services,
    name: string,
    place: number,
    options: { readonly macTableSize: number; readonly macAgingSeconds: number },
  ) {
    super(services, name, place, services.ns('ovs_kernel_per_packet'));
    this.ofproto = new Ofproto(services.recorder, place, options.macTableSize, options.macAgingSeconds);
  }

  override addPort(port: Port): void {
    super.addPort(port);
    this.ofproto.addPort(port.number);
  }
  /**
   * MAC entries and flows that name the port go with it (ovs mac_learning_flush of a bundle, bundle_destroy(); revalidators
   * delete flows whose input port is no more), frames that came in by it and still wait for an upcall are dropped when their
   * turn comes. A new port has all flows revalidated (bridge_run() after `ovs-vsctl add-port`).
   */
  protected override portGone(number: number): void {
    this.ofproto.removePort(number);
  }

  /** Removes a flow; what it counted stays with the OpenFlow rule, as revalidators see to it. */
  protected forget(table: MegaflowTable, flow: Flow): void {
    this.ofproto.credit(flow.packets, flow.bytes);
    table.remove(flow);
  }

  /** Executes a flow's actions on the packet at the current stamp. */
  execute(packet: number, outputs: Int32Array, contextBits: number): void {
    const n = outputs.length;
    if (n === 0) {
      this.drop(packet, contextBits, DP_DROP_NO_OUTPUT);
      return;
    }
    const length = this.services.pool.length[packet]!;
    for (let i = 0; i < n; i++)
      this.output(i < n - 1 ? this.copyOf(packet, length, contextBits) : packet, outputs[i]!, length, contextBits);
  }

  /**
   * ovs_vport_send() of linux net/openvswitch/vport.c, netdev_dpdk_filter_packet_len() of ovs: a tag is not counted by the
   * MTU.
   */
  protected override headroom(packet: number): number {
    const { pool, arena } = this.services;
    const at = pool.at(packet);
    const type = (arena.u8[at + 12]! << 8) | arena.u8[at + 13]!;
    return type === ETH_P_8021Q || type === ETH_P_8021AD ? VLAN_HLEN : 0;
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
