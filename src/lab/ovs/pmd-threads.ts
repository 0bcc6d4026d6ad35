/**
 * The PMD threads of a host and what they poll (ovs lib/dpif-netdev.c reconfigure_pmd_threads(), rxq_scheduling()). Threads come and
 * go with `other_config:pmd-cpu-mask`; receive queues are dealt again when threads, ports or settings change. A queue changes hands
 * when its PMD has landed what is under way and flushed what it has batched.
 *
 * Each port has a transmit queue for each slot. A PMD has a slot of its own; that of one that has gone is flushed by another one, for
 * it may be what threads that are no PMDs send by.
 */
import { RETIRED } from '../../engine/context.ts';
import { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import { Pmd, type PmdRxq, type PolledPort } from '../../machine/ovs/datapath/pmd.ts';
import {
  coresOfMask,
  parseAffinity,
  RXQ_SETTINGS,
  type RxqSettings,
  rxqSettings,
  scheduleRxqs,
} from '../../machine/ovs/datapath/rxq-scheduling.ts';
import type { InterfaceConfig, TextMap } from '../../machine/ovs/vswitchd/config.ts';
import type { HostSite, Site } from '../build/site.ts';

/** Frames that a batch holds of a PMD that the document does not have: the pool's margin has room for so many. */
const LATE_BATCH = 256;
const LATE_FRAMES = 8192;

interface Polled {
  readonly port: PolledPort;
  readonly rxq: PmdRxq;
  /** Who polls it; null: nobody. */
  pmd: Pmd | null;
  /** Who shall. */
  want: Pmd | null;
  /** Time that it has taken, while nobody polls it, ns. */
  busyNs: number;
  moved(to: Pmd): void;
}

/**
 * DEVIATION: a PMD needs a core that nothing else runs on; where none of a mask's cores is free, the PMDs stay as they are. Without a
 * mask one PMD stays, on the lowest core of those that there are.
 * DEVIATION: `cycles` and `group` go by all the time that a queue has taken, not by that of the last minute; `n_rxq` changes nothing:
 * a NIC has the receive queues of its document, a vhost-user port those of its guest.
 */
export class PmdThreads {
  /** PMDs that a queue is pinned to, and that get no other. */
  readonly isolated = new Set<Pmd>();
  private readonly polled: Polled[] = [];
  private readonly ports = new Set<PolledPort>();
  /** By slot: who flushes its queues, and whose it is (null: nobody's). */
  private readonly flushers: Pmd[] = [];
  private readonly owners: (Pmd | null)[] = [];
  private readonly leaving = new Set<Pmd>();
  private settings: RxqSettings = RXQ_SETTINGS;
  private affinity = new Map<string, ReadonlyMap<number, number>>();
  private known = '';
  declare private readonly site: Site;
  declare private readonly hostSite: HostSite;

  constructor(site: Site, hostSite: HostSite) {
    this.site = site;
    this.hostSite = hostSite;
  }
  private get all(): Pmd[] {
    return this.site.pmdsOf(this.hostSite);
  }
  /** Those that queues are dealt among: they have their slots, and stay. */
  private get ready(): Pmd[] {
    return this.all.filter((pmd) => !this.leaving.has(pmd) && this.owners.includes(pmd));
  }
  private local(pmd: Pmd): number {
    return this.hostSite.cores.local(pmd.core);
  }

  // ---- threads --------------------------------------------------------------------------------------------------------
  /** A PMD on a core that is free, of which there is a netdev bridge on the host. */
  make(core: number): void {
    const { site, hostSite } = this;
    const { host, prefix, cores } = hostSite;
    const { scheduler } = site.contexts;
    const netdev = site.bridges.find((b) => b.host === host.name && b.datapath === 'netdev')!;
    const local = cores.local(core);
    // a context's name is its own, also where its core has had a PMD before
    const { contexts } = site.contexts;
    const name = `${prefix}pmd-c${String(local).padStart(2, '0')}`;
    const again = contexts.some((context) => context.name === name);
    const pmd = new Pmd(again ? `${name}/id:${contexts.length}` : name, core, site.services);
    site.enter(pmd, netdev.place, { kind: 'pmd', core: local, host: host.name, polls: true });
    site.pmds.push(pmd);
    const datapath = netdev.bridge as NetdevDatapath;
    datapath.addPmd(pmd);
    datapath.outputBatching = host.ovs.outputBatching;
    pmd.outputBatching = host.ovs.outputBatching;
    if (scheduler !== null) pmd.arrive();
    if (hostSite.ovs !== null && hostSite.ovs.contextBits === 0) hostSite.ovs.actAs(pmd.id << 20);
    this.claim(pmd);
  }
  /** Gives it a slot: a new one, or one that is nobody's as soon as whoever flushes it has nothing in it. */
  private claim(pmd: Pmd): void {
    const slot = this.owners.indexOf(null);
    if (slot < 0) {
      const added = this.owners.push(pmd) - 1;
      this.flushers.push(pmd);
      for (const port of this.ports) {
        if (port.txqs.length <= added) port.addTxq(LATE_BATCH);
        pmd.addTxq(port.txqs[added]!);
      }
      return;
    }
    const flusher = this.flushers[slot]!;
    flusher.reload(() => {
      if (!this.all.includes(pmd) || this.owners.includes(pmd)) return;
      if (this.owners[slot] !== null || this.flushers[slot] !== flusher) {
        this.claim(pmd);
      } else {
        this.owners[slot] = pmd;
        this.flushers[slot] = pmd;
        for (const { txqs } of this.ports) {
          flusher.removeTxq(txqs[slot]!);
          pmd.addTxq(txqs[slot]!);
        }
      }
      this.deal();
    });
  }
  /** It polls nothing and has nothing batched. */
  private end(pmd: Pmd, heir: Pmd): void {
    const { site, hostSite } = this;
    this.leaving.delete(pmd);
    this.isolated.delete(pmd);
    for (const [slot, flusher] of this.flushers.entries()) {
      if (flusher !== pmd) continue;
      this.flushers[slot] = heir;
      for (const { txqs } of this.ports) {
        pmd.removeTxq(txqs[slot]!);
        heir.adoptTxq(txqs[slot]!);
      }
    }
    const own = this.owners.indexOf(pmd);
    if (own >= 0) this.owners[own] = null;
    site.pmds.splice(site.pmds.indexOf(pmd), 1);
    const heirBits = heir.id << 20;
    const datapath = site.datapaths.get(`${hostSite.host.name} netdev`)?.datapath;
    if (datapath instanceof NetdevDatapath) datapath.removePmd(pmd, heirBits);
    if (hostSite.ovs?.contextBits === pmd.id << 20) hostSite.ovs.actAs(heirBits);
    pmd.phase = RETIRED;
    site.contexts.retire(pmd.id);
    hostSite.cores.leave(pmd.core);
    heir.look();
    this.nameContexts();
    if (site.contexts.scheduler !== null) site.grew();
  }
  /** What guests' NICs say of the contexts that serve them. */
  private nameContexts(): void {
    const names = this.all.map((pmd) => pmd.name);
    for (const { guest, wiring, contexts } of this.site.guests.flatMap(({ nics }) => nics)) {
      if (wiring.kind !== 'vhost-user' || guest.host !== this.hostSite.host) continue;
      const others = contexts.filter((name) => guest.vcpus.some((vcpu) => vcpu.name === name));
      contexts.splice(0, contexts.length, ...others, ...names);
    }
  }

  // ---- ports ----------------------------------------------------------------------------------------------------------
  /** A port's queues are polled from now on. `hands`: who polls each of them, kept up to date. */
  addPort(port: PolledPort, rxqs: readonly PmdRxq[], hands: Pmd[]): void {
    this.ports.add(port);
    while (port.txqs.length < this.owners.length) port.addTxq(LATE_BATCH);
    for (const [slot, flusher] of this.flushers.entries()) {
      if (this.owners[slot] === flusher) flusher.addTxq(port.txqs[slot]!);
      else flusher.adoptTxq(port.txqs[slot]!);
    }
    for (const [i, rxq] of rxqs.entries()) {
      const moved = (to: Pmd): void => {
        hands[i] = to;
        for (const { wiring, nic } of this.site.guests.flatMap(({ nics }) => nics)) {
          const pair = wiring.kind === 'vhost-user' && wiring.port === port ? nic.pairs[i] : undefined;
          if (pair !== undefined && pair.devicePoller >= 0) pair.devicePoller = to.id;
        }
      };
      this.polled.push({ port, rxq, pmd: null, want: null, busyNs: 0, moved });
    }
    this.deal();
  }
  /** It has gone: nobody polls it, and what lies in its batches is the port's own to drop. */
  removePort(port: PolledPort): void {
    this.ports.delete(port);
    for (let i = this.polled.length - 1; i >= 0; i--) {
      const { pmd, rxq, port: of } = this.polled[i]!;
      if (of !== port) continue;
      pmd?.removeRxq(rxq);
      this.polled.splice(i, 1);
    }
    for (const [slot, flusher] of this.flushers.entries()) flusher.removeTxq(port.txqs[slot]!);
    this.deal();
  }

  // ---- settings -------------------------------------------------------------------------------------------------------
  /** Open_vSwitch.other_config, and the interfaces of all bridges. */
  configure(config: TextMap, interfaces: readonly InterfaceConfig[]): void {
    const pins = interfaces.flatMap(({ name, otherConfig }) => {
      const text = otherConfig.get('pmd-rxq-affinity');
      return text === undefined ? [] : [[name, text] as const];
    });
    const mask = config.get('pmd-cpu-mask');
    const settings = rxqSettings(config);
    const asked = JSON.stringify([mask ?? null, settings, pins, this.datapathThere]);
    if (asked === this.known) return;
    this.known = asked;
    this.settings = settings;
    this.affinity = new Map(pins.map(([name, text]) => [name, parseAffinity(text)]));
    this.follow(mask);
    this.deal();
  }
  private get datapathThere(): boolean {
    return this.site.bridges.some((b) => b.host === this.hostSite.host.name && b.datapath === 'netdev');
  }
  /** reconfigure_pmd_threads(). */
  private follow(mask: string | undefined): void {
    if (!this.datapathThere) return;
    const cores = this.coresFor(mask);
    if (cores === null) return;
    const stay = this.all.filter((pmd) => cores.includes(this.local(pmd)));
    for (const pmd of stay) this.leaving.delete(pmd);
    let made = 0;
    for (const local of cores) {
      if (this.all.some((pmd) => this.local(pmd) === local) || !this.hasRoom()) continue;
      const core = this.hostSite.cores.take(local);
      if (core === null) continue;
      this.make(core);
      made++;
    }
    if (stay.length + made === 0) return;
    for (const pmd of this.all) if (!cores.includes(this.local(pmd))) this.leaving.add(pmd);
    this.nameContexts();
    if (made > 0 && this.site.contexts.scheduler !== null) this.site.grew();
  }
  private coresFor(mask: string | undefined): number[] | null {
    const cores = mask === undefined || mask === '' ? null : coresOfMask(mask);
    if (cores !== null) return cores;
    const there = this.all.map((pmd) => this.local(pmd));
    return there.length === 0 ? null : [Math.min(...there)];
  }
  /** For one more context, and for what its batches hold. */
  private hasRoom(): boolean {
    const { site, hostSite } = this;
    if (site.contexts.scheduler !== null && site.lacks(0, 1) !== null) return false;
    const slots = Math.max(this.owners.length, this.all.length + 1);
    const late = Math.max(0, slots - (hostSite.pollers.get('pmd')?.length ?? 0));
    return late * this.ports.size * LATE_BATCH <= LATE_FRAMES;
  }

  // ---- queues ---------------------------------------------------------------------------------------------------------
  /** rxq_scheduling(): deals all queues again; those that get another PMD go there when theirs lets them go. */
  deal(): void {
    const { ready } = this;
    if (ready.length === 0) return;
    const rxqs = this.polled.map(({ rxq, pmd, busyNs }) => ({
      core: this.affinity.get(rxq.portName)?.get(rxq.queueId) ?? null,
      busyNs: pmd === null ? busyNs : pmd.busyOf(rxq),
    }));
    const cores = ready.map((pmd) => this.local(pmd));
    const dealt = scheduleRxqs(cores, rxqs, this.settings);
    this.isolated.clear();
    for (const [i, isolated] of dealt.isolated.entries()) if (isolated) this.isolated.add(ready[i]!);
    for (const [i, polled] of this.polled.entries()) {
      polled.want = ready[dealt.pmds[i]!] ?? null;
      if (polled.pmd === null) this.give(polled);
    }
    for (const pmd of this.all)
      if (this.leaving.has(pmd) || this.polled.some((p) => p.pmd === pmd && p.want !== pmd))
        pmd.reload(() => this.letGo(pmd));
  }
  private letGo(pmd: Pmd): void {
    for (const polled of this.polled) {
      if (polled.pmd !== pmd || polled.want === pmd) continue;
      polled.busyNs = pmd.removeRxq(polled.rxq);
      polled.pmd = null;
      this.give(polled);
    }
    const [heir] = this.ready;
    if (this.leaving.has(pmd) && heir !== undefined) this.end(pmd, heir);
  }
  private give(polled: Polled): void {
    const { want, rxq, busyNs } = polled;
    if (want === null) return;
    polled.pmd = want;
    want.addRxq(rxq, busyNs);
    polled.moved(want);
    want.look();
  }
}
