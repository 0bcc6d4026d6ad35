/**
 * Bonds as far as active-backup (ovs ofproto/bond.c): one member carries, the others wait until its link is down.
 *
 * DEVIATION: no LACP, no rebalancing by load; balance-slb and balance-tcp choose by their hash over the enabled members.
 */
import type { OfPort } from './port.ts';

export interface BondSettings {
  readonly mode: 'active-backup' | 'balance-slb' | 'balance-tcp';
  /** other_config:bond-primary; null: none. */
  readonly primary: string | null;
  /** Port.bond_updelay, bond_downdelay: milliseconds. */
  readonly upDelay: number;
  readonly downDelay: number;
}

export interface BondMember {
  readonly port: OfPort;
  enabled: boolean;
  /** `may_enable`: its link is up, nobody took it down. */
  mayEnable: boolean;
  /** When a delay ends and `enabled` follows `mayEnable`, ns; Infinity: nothing is under way. */
  delayExpires: number;
  /** ovs-appctl bond/disable-member. */
  forcedDown: boolean;
}

export class Bond {
  declare readonly name: string;
  declare settings: BondSettings;
  members: BondMember[] = [];
  active: BondMember | null = null;

  constructor(name: string, settings: BondSettings) {
    this.name = name;
    this.settings = settings;
  }
}
