/**
 * Bonds as far as active-backup (ovs ofproto/bond.c): one member carries, the others wait until its link is down.
 *
 * DEVIATION: no LACP, no rebalancing by load, no gratuitous frames after a failover. balance-slb spreads by its hash over the enabled
 * members; balance-tcp needs LACP and so drops everything, as OVS does where LACP is off.
 */

import { VLAN_CFI } from '../flow/flow.ts';
import { jhashBytes } from '../flow/hash.ts';
import { DL_SRC, examine, get16, put16, VLAN_TCI, VLAN_VID_MASK } from '../flow/headers.ts';
import type { OfPort } from './port.ts';
import type { XlateContext } from './xlate/context.ts';

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
  /** Its link is up, and nobody took it down. */
  mayEnable: boolean;
  /** When a delay ends and `enabled` follows the link, ns; Infinity: nothing is under way. */
  delayExpires: number;
  /** `bond/disable-member`. */
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

  /** Its members are these ports; who stays keeps his state. */
  configure(settings: BondSettings, ports: readonly OfPort[], now: number): void {
    this.settings = settings;
    this.members = ports.map(
      (port) =>
        this.members.find((member) => member.port === port) ?? {
          port,
          enabled: port.mayEnable,
          mayEnable: port.mayEnable,
          delayExpires: Number.POSITIVE_INFINITY,
          forcedDown: false,
        },
    );
    if (this.active !== null && !this.members.includes(this.active)) this.active = null;
    this.run(now);
  }

  /** Links and delays (bond_run()). True where who carries has changed. */
  run(now: number): boolean {
    let changed = false;
    for (const member of this.members) {
      member.mayEnable = member.port.mayEnable;
      const up = member.mayEnable && !member.forcedDown;
      if (up === member.enabled) {
        member.delayExpires = Number.POSITIVE_INFINITY;
        continue;
      }
      if (member.delayExpires === Number.POSITIVE_INFINITY) {
        // Without anyone to carry, no delay keeps a member from it.
        const delay = up ? (this.active === null ? 0 : this.settings.upDelay) : this.settings.downDelay;
        member.delayExpires = now + delay * 1e6;
      }
      if (now < member.delayExpires) continue;
      member.enabled = up;
      member.delayExpires = Number.POSITIVE_INFINITY;
      changed = true;
    }
    const { primary } = this.settings;
    const preferred = this.members.find((member) => member.enabled && member.port.name === primary);
    const stays = this.active?.enabled === true && (preferred === undefined || preferred === this.active);
    if (stays) return changed;
    const next = preferred ?? this.members.find((member) => member.enabled) ?? null;
    if (next === this.active) return changed;
    this.active = next;
    return true;
  }
}

/** bond_check_admissibility(): whether a frame that came in by a member is taken. */
export function admissible(bond: Bond, inPort: number, multicast: boolean): 'accept' | 'drop' | 'drop-if-moved' {
  const member = bond.members.find(({ port }) => port.number === inPort);
  if (member === undefined || !member.enabled) return 'drop';
  switch (bond.settings.mode) {
    case 'balance-tcp':
      return 'drop';
    case 'active-backup':
      return member === bond.active ? 'accept' : 'drop';
    case 'balance-slb':
      if (multicast && member !== bond.active) return 'drop';
      return 'drop-if-moved';
  }
}

/** bond_choose_output_member(): the port that a frame leaves by; null: none can. */
export function chooseMember(bond: Bond, { flow, wc }: XlateContext, vlan: number): OfPort | null {
  switch (bond.settings.mode) {
    case 'active-backup':
      return bond.active?.port ?? null;
    case 'balance-tcp':
      return null;
    case 'balance-slb': {
      examine(wc, DL_SRC, 6);
      put16(wc, VLAN_TCI, get16(wc, VLAN_TCI) | VLAN_VID_MASK | VLAN_CFI);
      const enabled = bond.members.filter((member) => member.enabled);
      if (enabled.length === 0) return null;
      const bytes = Uint8Array.of(...flow.u8.subarray(DL_SRC, DL_SRC + 6), vlan >>> 8, vlan & 0xff);
      return enabled[(jhashBytes(bytes, 0) & 0xff) % enabled.length]!.port;
    }
  }
}
