/**
 * A port of a DPDK program as lib/ethdev keeps it, and the commands of the control queue that changes of it become. dpdk 22.11
 * lib/ethdev/rte_ethdev.c, drivers/net/virtio/virtio_ethdev.c virtio_dev_promiscuous_enable(), virtio_mac_addr_add(),
 * virtio_vlan_filter_set().
 */
import {
  type Features,
  hasFeature,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
} from '../virtio/features.ts';
import * as W from '../wire/virtio-net-ctrl.ts';
import { type ControlCommand, macTableSet, rxMode, vlanAdd, vlanDel } from './net-commands.ts';

type Mac = readonly number[];
/** dpdk VIRTIO_MAX_MAC_ADDRS: dev->data->mac_addrs, the port's own first. */
export const VIRTIO_MAX_MAC_ADDRS = 64;
const ZERO: Mac = [0, 0, 0, 0, 0, 0];
const isMulticast = (mac: Mac): boolean => (mac[0]! & 1) === 1;
const same = (a: Mac, b: Mac): boolean => a.every((byte, i) => byte === b[i]);

/** What may be asked for; what is left out stays as it is. */
export interface PortChange {
  readonly promiscuous?: boolean | undefined;
  readonly allmulticast?: boolean | undefined;
  /** Further addresses that are taken, multicast ones among them: all that shall be. */
  readonly macAddrs?: readonly Mac[] | undefined;
  /** VLANs that are taken: all that shall be. */
  readonly vlanFilter?: readonly number[] | undefined;
}

/** A command, and what it changes once it was answered. */
interface Step {
  readonly command: ControlCommand;
  readonly done: () => void;
}

export class PmdPort {
  /** testpmd starts its ports promiscuous. */
  promiscuous = true;
  allmulticast = false;
  /** Entries of dev->data->mac_addrs behind the port's own; zero where one is free. */
  readonly macAddrs: Mac[] = new Array<Mac>(VIRTIO_MAX_MAC_ADDRS - 1).fill(ZERO);
  readonly vlans = new Set<number>();
  /** Commands that the device refused. */
  failed = 0;
  /** Called once when no command is under way any more. */
  private readonly waiters: (() => void)[] = [];
  private readonly own: Mac;
  private readonly accepted: Features;
  private readonly steps: Step[] = [];

  constructor(own: Mac, accepted: Features) {
    this.own = own;
    this.accepted = accepted;
  }
  get waiting(): number {
    return this.steps.length;
  }
  get addresses(): readonly Mac[] {
    return this.macAddrs.filter((mac) => !same(mac, ZERO));
  }

  /** Why the driver cannot do it (-ENOTSUP): a feature that was not negotiated; null where it can. */
  lacks(change: PortChange): string | null {
    const need = (asked: boolean, bits: readonly (readonly [number, string])[]): string | null =>
      asked ? (bits.find(([bit]) => !hasFeature(this.accepted, bit))?.[1] ?? null) : null;
    const queue = [VIRTIO_NET_F_CTRL_VQ, 'VIRTIO_NET_F_CTRL_VQ'] as const;
    const rx = [VIRTIO_NET_F_CTRL_RX, 'VIRTIO_NET_F_CTRL_RX'] as const;
    const mac = [VIRTIO_NET_F_CTRL_MAC_ADDR, 'VIRTIO_NET_F_CTRL_MAC_ADDR'] as const;
    const vlan = [VIRTIO_NET_F_CTRL_VLAN, 'VIRTIO_NET_F_CTRL_VLAN'] as const;
    return (
      need(change.promiscuous !== undefined || change.allmulticast !== undefined, [queue, rx]) ??
      need(change.macAddrs !== undefined, [queue, rx, mac]) ??
      need(change.vlanFilter !== undefined, [queue, vlan])
    );
  }

  /** The commands for it, in the order in which a program would make the calls; what is so already needs none. */
  change(change: PortChange): ControlCommand[] {
    const before = this.steps.length;
    const { promiscuous, allmulticast } = change;
    if (promiscuous !== undefined && promiscuous !== this.promiscuous)
      this.step(rxMode(W.VIRTIO_NET_CTRL_RX_PROMISC, promiscuous), () => {
        this.promiscuous = promiscuous;
      });
    if (allmulticast !== undefined && allmulticast !== this.allmulticast)
      this.step(rxMode(W.VIRTIO_NET_CTRL_RX_ALLMULTI, allmulticast), () => {
        this.allmulticast = allmulticast;
      });
    if (change.macAddrs !== undefined) this.setAddresses(change.macAddrs);
    if (change.vlanFilter !== undefined) {
      const wanted = new Set(change.vlanFilter);
      for (const vid of this.vlans) if (!wanted.has(vid)) this.step(vlanDel(vid), () => void this.vlans.delete(vid));
      for (const vid of wanted) if (!this.vlans.has(vid)) this.step(vlanAdd(vid), () => void this.vlans.add(vid));
    }
    return this.steps.slice(before).map((s) => s.command);
  }
  /** rte_eth_dev_mac_addr_remove() and _add() one by one: each sends the whole table. */
  private setAddresses(wanted: readonly Mac[]): void {
    const table = [...this.macAddrs];
    for (const [i, mac] of table.entries()) {
      if (same(mac, ZERO) || wanted.some((w) => same(w, mac))) continue;
      table[i] = ZERO;
      // virtio_mac_addr_remove() leaves free entries out
      const left = [this.own, ...table].filter((m) => !same(m, ZERO));
      this.step(tableOf(left), () => {
        this.macAddrs[i] = ZERO;
      });
    }
    for (const mac of wanted) {
      if (same(mac, this.own) || table.some((m) => same(m, mac))) continue;
      const i = table.findIndex((m) => same(m, ZERO));
      table[i] = mac;
      // virtio_mac_addr_add() does not
      this.step(tableOf([this.own, ...table]), () => {
        this.macAddrs[i] = mac;
      });
    }
  }
  private step(command: ControlCommand, done: () => void): void {
    this.steps.push({ command, done });
  }
  /** A command was answered; others than this port's are not looked at. */
  answered(command: ControlCommand, ok: boolean): void {
    if (this.steps[0]?.command !== command) return;
    const { done } = this.steps.shift()!;
    if (ok) done();
    else this.failed++;
    if (this.steps.length === 0) for (const waiter of this.waiters.splice(0)) waiter();
  }
  /** Calls `then` when everything that was asked for is answered. */
  settled(then: () => void): void {
    this.waiters.push(then);
  }
}

const tableOf = (macs: readonly Mac[]): ControlCommand =>
  macTableSet(
    macs.filter((m) => !isMulticast(m)),
    macs.filter(isMulticast),
  );
