/**
 * The neighbour table of a guest, for IPv4 (ARP, RFC 826) and IPv6 (neighbour discovery, RFC 4861), and who waits for an
 * entry. Entries do not age.
 */
import { NEVER } from '../../../engine/timeline.ts';
import type { GuestNic } from '../guest-nic.ts';
import type { IpAddress } from './ip-path.ts';

/** linux neigh: retrans_time 1 s, three multicast solicitations. */
const RETRANS_NS = 1_000_000_000;
const TRIES = 3;

/** Waits for the link address of a neighbour. */
export interface Resolver {
  /** 4 or 16 bytes. */
  readonly ip: IpAddress;
  resolved(mac: readonly number[]): void;
  unreachable(): void;
}

export class Neighbours {
  /** [0] when the next request is due, NEVER without. */
  readonly timer = new Float64Array([NEVER]);
  private readonly table = new Map<string, readonly number[]>();
  private readonly resolving: { resolver: Resolver; nic: GuestNic; tries: number; next: number }[] = [];
  private readonly ask: (nic: GuestNic, ip: IpAddress, now: number) => void;

  /** `ask` sends an ARP request or a neighbour solicitation. */
  constructor(ask: (nic: GuestNic, ip: IpAddress, now: number) => void) {
    this.ask = ask;
  }

  /** The table as it stands: address (its bytes in decimal, joined by dots) and link address. */
  entries(): [string, readonly number[]][] {
    return [...this.table];
  }
  adopt(entries: readonly (readonly [string, readonly number[]])[]): void {
    for (const [ip, mac] of entries) this.table.set(ip, mac);
  }

  /** Resolves an address of the NIC's subnet, at once or after asking. */
  resolve(nic: GuestNic, resolver: Resolver, now: number): void {
    const known = this.table.get(keyOf(resolver.ip));
    if (known) {
      resolver.resolved(known);
      return;
    }
    this.resolving.push({ resolver, nic, tries: 0, next: now });
    this.runTimers(now);
  }

  /** Sends requests that are due; gives up after TRIES. */
  runTimers(now: number): void {
    for (const r of [...this.resolving]) {
      if (r.next > now) continue;
      if (r.tries === TRIES) {
        this.resolving.splice(this.resolving.indexOf(r), 1);
        r.resolver.unreachable();
        continue;
      }
      r.tries++;
      r.next = now + RETRANS_NS;
      this.ask(r.nic, r.resolver.ip, now);
    }
    this.setTimer();
  }

  /** A neighbour has said where it is. An entry is made where `create`, otherwise only one that is there is changed. */
  learned(ip: IpAddress, mac: readonly number[], create: boolean): void {
    const key = keyOf(ip);
    const waits = this.resolving.some((r) => keyOf(r.resolver.ip) === key);
    if (!create && !waits && !this.table.has(key)) return;
    this.table.set(key, mac);
    for (const r of [...this.resolving]) {
      if (keyOf(r.resolver.ip) !== key) continue;
      this.resolving.splice(this.resolving.indexOf(r), 1);
      r.resolver.resolved(mac);
    }
    this.setTimer();
  }

  private setTimer(): void {
    let t = NEVER;
    for (const r of this.resolving) if (r.next < t) t = r.next;
    this.timer[0] = t;
  }
}

const keyOf = (ip: IpAddress): string => ip.join('.');
