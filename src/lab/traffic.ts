/**
 * Turns a request for traffic into sources at its ends. Refusals name the field and what was expected.
 *
 * DEVIATION: traffic begins when its target's link address is known, and a run has failed when nobody answers three questions for it.
 * With Linux that is so for TCP only: a datagram or echo request that waited is dropped, and the next one asks again.
 */

import { assert } from '../engine/assert.ts';
import { LinuxVcpu } from '../machine/guest/linux-vcpu.ts';
import { MAX_PKT_BURST } from '../machine/guest/pmd-vcpu.ts';
import { type IpAddress, IpPath } from '../machine/guest/stack/ip-path.ts';
import { PingSource, pingMinFrame } from '../machine/guest/traffic/ping-source.ts';
import { FrameList, RawSource } from '../machine/guest/traffic/raw-source.ts';
import { gsoSegments, UdpGsoSource } from '../machine/guest/traffic/udp-gso-source.ts';
import { type UdpFlow, UdpSource, UdpTemplate, udpMinFrame } from '../machine/guest/traffic/udp-source.ts';
import { FCS_BYTES } from '../machine/host/nic.ts';
import { WireStream } from '../machine/host/wire.ts';
import { NetdevDatapath } from '../machine/ovs/datapath/netdev-datapath.ts';
import { SLOT_BYTES } from '../machine/packet/pool.ts';
import type { RunLedger } from '../machine/packet/run-ledger.ts';
import { ETH_HLEN } from '../machine/wire/ethernet.ts';
import type { BuiltHostNic, BuiltNic, Machine } from './build/machine.ts';
import { TEMPLATE_SLOTS } from './build/memory.ts';
import { Connections } from './connections.ts';
import { type End, Ends } from './ends.ts';
import type { FramesSpec, TrafficSpec } from './protocol.ts';
import { Refusal } from './refusal.ts';
import { Run } from './run.ts';
import {
  addressesOf,
  type Family,
  familyOf,
  forwards,
  generatorOf,
  identityOf,
  ipText,
  placeOf,
  portIdentity,
  scopeOf,
  type UdpEnd,
  wireEnd,
} from './traffic-ends.ts';
import { framesOf } from './traffic-pattern.ts';
import { frameSizesOf, type Stream, streamsOf } from './udp-streams.ts';

/** Longest Ethernet frame in memory: MTU 1500 and the header. */
export const MAX_FRAME = 1514;
/** Shortest frame on Ethernet without FCS. */
const MIN_FRAME = 60;
/** Runs of one world that may be in progress: each keeps a template slot. */
const MAX_ACTIVE = TEMPLATE_SLOTS / 2;

export { Refusal } from './refusal.ts';

export class Traffic {
  private readonly machine: Machine;
  private readonly ends: Ends;
  private readonly connections: Connections;
  /** By template slot: the run that uses it. */
  private readonly slots: (Run | null)[] = Array.from({ length: TEMPLATE_SLOTS }, () => null);

  constructor(machine: Machine) {
    this.machine = machine;
    this.connections = new Connections(machine);
    this.connections.onFailure = (run, reason) => this.onUnreachable(run, reason);
    this.connections.onUnreachable = (run, ip) => this.unreachable(run, ip);
    this.ends = new Ends(machine);
  }

  private end(name: string, field: string): End {
    const end = this.ends.find(name);
    if (end === undefined)
      throw new Refusal(
        'INVALID',
        `${JSON.stringify(name)} is not an end of this topology; expected one of ${this.ends.names.slice(0, 20).join(', ')}`,
        field,
      );
    if (end.kind === 'guest' && end.nic.document.driver === 'none' && field !== '/to')
      throw new Refusal(
        'INVALID',
        `${name} has no driver that could send; expected an end that sends, or its client puts frames into the ring`,
        field,
      );
    if (end.kind === 'wire' && end.nic.wire === null) {
      throw new Refusal(
        'INVALID',
        `${name} has a link, so it has no wire end; expected a NIC that no link connects`,
        field,
      );
    }
    return end;
  }

  /** Starts a run of generated traffic at virtual time `now`. */
  start(spec: TrafficSpec, now: number, active: number): Run {
    if (active >= MAX_ACTIVE)
      throw new Refusal('CONFLICT', `${active} runs are in progress in this topology; expected at most ${MAX_ACTIVE}`);
    const from = this.end(spec.from, '/from');
    const to = this.end(spec.to, '/to');
    if (to.kind === 'port')
      throw new Refusal(
        'INVALID',
        `${spec.to} is a bridge port, where frames can only come in; expected a guest's NIC or the wire end of a NIC`,
        '/to',
      );
    const via = from.name === to.name ? this.forwarderBehind(from) : null;
    if (from.name === to.name && via === null)
      throw new Refusal(
        'INVALID',
        `from and to are both ${spec.from}; expected two ends (a NIC's wire end may be both where a guest of its bridge forwards)`,
        '/to',
      );
    const { largest, smallest } = frameSizesOf(spec);
    const length = largest - FCS_BYTES;
    if (smallest - FCS_BYTES < MIN_FRAME || length > MAX_FRAME)
      throw new Refusal(
        'INVALID',
        `frameSize ${length > MAX_FRAME ? largest : smallest} is out of range; expected 64 to ${MAX_FRAME + FCS_BYTES} bytes, FCS included`,
        spec.pattern?.sizes ? '/sizes' : '/frameSize',
      );
    if (spec.kind !== 'udp' && spec.kind !== 'ping') {
      const source = this.stackEnd(from, '/from', 'open connections');
      return this.connections.start(spec, source, this.stackEnd(to, '/to', 'take connections'), from, to, now);
    }
    if (spec.kind === 'ping') return this.ping(spec, from, to, length, now);
    return this.udp(spec, from, to, via, length, now);
  }

  /** A guest that sends back what comes in from a wire: the first forwarding one on the same bridge. */
  private forwarderBehind(end: End): BuiltNic | null {
    if (end.kind !== 'wire') return null;
    for (const g of this.machine.guests) {
      // a bridge's frames leave by its other NIC
      if (!forwards(g) || g.document.app === 'bridge' || g.host.name !== end.nic.host) continue;
      const nic = g.nics.find((n) => n.document.bridge === end.nic.bridge);
      if (nic) return nic;
    }
    return null;
  }

  // ---- ping ---------------------------------------------------------------------------------------------------------
  private ping(spec: TrafficSpec, from: End, to: End, length: number, now: number): Run {
    if (spec.generator !== null)
      throw new Refusal('INVALID', 'ping has no generator; expected the field to be left out', '/generator');
    const source = this.stackEnd(from, '/from', 'send echo requests');
    const target = this.stackEnd(to, '/to', 'answer echo requests');
    const addresses = addressesOf(source, target, spec.family ?? null);
    const ip = addresses.to;
    if (length < pingMinFrame(familyOf(ip)))
      throw new Refusal('INVALID', `frameSize ${spec.frameSize} is too small for an echo request`, '/frameSize');
    const ledger = this.machine.frames.openRun(placeOf(to), placeOf(from));
    const run = new Run(
      this.machine,
      spec.id,
      'ping',
      from.name,
      to.name,
      ledger,
      scopeOf(this.machine, [from, to], null),
    );
    const { vcpu, stack } = source.guest;
    const services = this.machine.services;
    const interval = spec.rate === 0 ? 0 : 1e9 / spec.rate;
    stack.resolve(
      source.nic,
      {
        ip,
        resolved: (mac) => {
          if (run.done) return;
          const cost = vcpu instanceof LinuxVcpu ? services.ns('guest_udp_send') : services.ns('virtio_pmd_per_packet');
          const ping = new PingSource(
            services,
            source.nic,
            stack,
            ledger,
            new IpPath(services.arena, source.document.mac, mac, addresses.from, ip),
            { frameLength: length, count: spec.count, interval, cost },
          );
          run.sentBySource = () => ping.sent;
          run.stop = () => ping.cancel();
          ping.start(Math.max(this.machine.scheduler.now[0]!, now));
          vcpu.addSource(ping);
        },
        unreachable: () => this.unreachable(run, ip),
      },
      now,
    );
    vcpu.timersChanged();
    return run;
  }

  /** Called when a run cannot start; the world ends it. */
  onUnreachable: (run: Run, reason: string) => void = () => {};
  private unreachable(run: Run, ip: IpAddress): void {
    const question = ip.length === 4 ? 'ARP' : 'neighbour solicitation';
    this.onUnreachable(run, `no answer to ${question} for ${ipText(ip)}: is there a way between the two ends?`);
  }

  private stackEnd(end: End, field: string, what: string): BuiltNic {
    if (end.kind !== 'guest' || end.nic.guest.document.app !== 'stack') {
      throw new Refusal('INVALID', `${end.name} cannot ${what}; expected a NIC of a guest with app "stack"`, field);
    }
    return end.nic;
  }

  // ---- UDP ----------------------------------------------------------------------------------------------------------
  /** A template in a slot that no run in progress uses. */
  private template(run: Run, flow: UdpFlow): UdpTemplate {
    const slot = this.slots.findIndex((user) => user === null || user.done);
    assert(slot >= 0, 'a run takes no more slots than are free');
    this.slots[slot] = run;
    return new UdpTemplate(this.machine.services, this.machine.templates + slot * SLOT_BYTES, flow);
  }
  /** Runs that have templates. */
  private get sending(): number {
    return new Set(this.slots.filter((user) => user !== null && !user.done)).size;
  }
  private get freeSlots(): number {
    return this.slots.filter((user) => user === null || user.done).length;
  }

  private udp(spec: TrafficSpec, from: End, to: End, via: BuiltNic | null, length: number, now: number): Run {
    const generator = generatorOf(this.machine.services, spec.generator, from);
    const segments = spec.segments ?? 1;
    if (segments > 1 && (from.kind !== 'guest' || generator.batch !== 1))
      throw new Refusal('INVALID', `${from.name} sends from no socket; expected the field to be left out`, '/segments');
    // testpmd asks for no addresses: it is told its peer's (--eth-peer)
    const txonly = from.kind === 'guest' && from.nic.guest.document.app === 'txonly';
    const stacks = from.kind === 'guest' && !txonly && to.kind === 'guest' && to.nic.guest.document.app === 'stack';
    const addresses = stacks
      ? addressesOf(this.stackEnd(from, '/from', 'send datagrams'), to.nic, spec.family ?? null)
      : null;
    const family: Family = addresses === null ? (spec.family ?? 4) : familyOf(addresses.to);
    const { smallest } = frameSizesOf(spec);
    if (smallest - FCS_BYTES < udpMinFrame(family))
      throw new Refusal(
        'INVALID',
        `frameSize ${smallest} is too small for a datagram`,
        spec.pattern?.sizes ? '/sizes' : '/frameSize',
      );
    if (spec.pattern?.spread === 'addresses' && from.kind === 'guest' && generator.batch === 1)
      throw new Refusal(
        'INVALID',
        `a socket of ${from.name} has one source address; expected the generator pktgen, or \`ports\``,
        '/spread',
      );
    let target: UdpEnd;
    if (via) target = identityOf(via, family);
    else if (to.kind === 'guest') {
      if (to.nic.guest.document.app === 'stack' && family === 4 && to.nic.document.addresses.length === 0) {
        throw new Refusal('INVALID', `${to.name} has no address; expected a NIC with addresses in the document`, '/to');
      }
      target = addresses === null ? identityOf(to.nic, family) : { mac: to.nic.document.mac, ip: addresses.to };
    } else if (to.kind === 'wire') target = wireEnd(to.nic.wire!, family);
    else throw new Refusal('INVALID', 'expected an end that receives', '/to');
    if (from.kind === 'guest' && !txonly) {
      this.stackEnd(from, '/from', 'send datagrams');
      if (family === 4 && from.nic.document.addresses.length === 0)
        throw new Refusal(
          'INVALID',
          `${from.name} has no address; expected a NIC with addresses in the document`,
          '/from',
        );
    }
    const ledger = this.machine.frames.openRun(placeOf(to), 0);
    const run = new Run(
      this.machine,
      spec.id,
      'udp',
      from.name,
      to.name,
      ledger,
      scopeOf(this.machine, [from, to], via),
    );
    const { seed } = this.machine.topology;
    const flow = (sender: UdpEnd, mac: readonly number[], stream?: Stream): UdpFlow => ({
      ...stream?.flow,
      sourceMac: sender.mac,
      destinationMac: mac,
      sourceIp: sender.ip,
      destinationIp: target.ip,
      flows: spec.flows,
      frameLength: length,
    });
    if (from.kind !== 'guest') {
      const [only] = streamsOf(spec, 1, seed, ledger.index);
      const sender = from.kind === 'wire' ? wireEnd(from.nic.wire!, family) : portIdentity(this.machine, from, family);
      const template = this.template(run, flow(sender, target.mac, only));
      const stream = new WireStream(ledger, { template, pace: only!.pace });
      run.stop = () => this.cancelStream(stream, ledger);
      stream.start(now);
      if (from.kind === 'wire') from.nic.wire!.addStream(stream);
      else this.inject(from, stream);
      return run;
    }
    const { vcpu, stack } = from.nic.guest;
    const sender = { mac: from.nic.document.mac, ip: addresses?.from ?? identityOf(from.nic, family).ip };
    const begin = (mac: readonly number[]): void => {
      if (run.done) return;
      const { nic } = from.nic;
      // each flow has its queue pair (XPS): as many senders as there are pairs to send by
      // and each run that may still come can have a slot
      const spare = this.freeSlots - MAX_ACTIVE + this.sending;
      const senders = Math.min(nic.active, spec.flows, framesOf(spec), Math.max(1, spare));
      let left = senders;
      const partial = nic.caps.csum;
      const streams = streamsOf(spec, senders, seed, ledger.index);
      const sources = streams.map((stream, pair) => {
        const { pace } = stream;
        const source =
          segments > 1 && nic.caps.uso && partial
            ? new UdpGsoSource(
                this.machine.services,
                nic,
                flow(sender, mac, stream),
                { ...pace, segments, cost: generator.cost },
                pair,
              )
            : new UdpSource(
                nic,
                this.template(run, { ...flow(sender, mac, stream), partial }),
                pace,
                segments > 1 ? this.cutByKernel(segments, length, family, generator.cost) : generator,
                pair,
              );
        source.ledger = ledger;
        source.onDone = () => {
          if (--left === 0) ledger.sourceDone = true;
        };
        return source;
      });
      run.stop = () => {
        for (const source of sources) source.cancel();
        this.machine.frames.sourceDone(ledger);
      };
      const start = Math.max(this.machine.scheduler.now[0]!, now);
      for (const [i, source] of sources.entries()) {
        source.start(start + (spec.rate === 0 ? 0 : (i * 1e9) / spec.rate));
        vcpu.addSource(source);
      }
    };
    // wires and forwarding programs answer no ARP: their address is in the sender's neighbour table (DEVIATION)
    if (addresses !== null) {
      stack.resolve(
        from.nic.nic,
        { ip: target.ip, resolved: begin, unreachable: () => this.unreachable(run, target.ip) },
        now,
      );
      vcpu.timersChanged();
    } else begin(target.mac);
    return run;
  }

  /** A send that the guest's kernel cuts before the driver: its frames come as one burst, and share the way through the stack. */
  private cutByKernel(
    segments: number,
    length: number,
    family: Family,
    cost: number,
  ): { batch: number; cost: number; split: boolean } {
    const batch = gsoSegments(length, ETH_HLEN + (family === 4 ? 20 : 40), segments);
    return { batch, cost: Math.round(cost / batch) + this.machine.services.ns('gso_segment'), split: false };
  }

  private cancelStream(stream: WireStream, ledger: RunLedger): void {
    stream.cancel();
    this.machine.frames.sourceDone(ledger);
  }

  private inject(end: End & { kind: 'port' }, stream: WireStream): void {
    const { bridge } = end.bridge;
    const netdev = bridge instanceof NetdevDatapath;
    const pmd = netdev
      ? (this.machine.pmds.find((p) => this.machine.catalog.contexts[p.id]!.host === end.bridge.host) ?? null)
      : null;
    this.machine.injectors.get(end.bridge.host)!.add({ port: end.port, datapath: bridge, pmd, stream });
  }

  // ---- raw frames ---------------------------------------------------------------------------------------------------
  /** Starts a run of raw frames. Their lengths have been checked. */
  frames(spec: FramesSpec, now: number, active: number): Run {
    if (active >= MAX_ACTIVE)
      throw new Refusal('CONFLICT', `${active} runs are in progress in this topology; expected at most ${MAX_ACTIVE}`);
    const at = this.end(spec.at, '/at');
    // captures taken inside a host hold frames that nobody has padded yet
    for (const [i, length] of spec.lengths.entries()) {
      if (length < ETH_HLEN || length > MAX_FRAME)
        throw new Refusal(
          'INVALID',
          `frame of ${length} bytes; expected ${ETH_HLEN} to ${MAX_FRAME} bytes without FCS`,
          `/frames/${i}`,
        );
    }
    if (spec.lengths.length === 0) throw new Refusal('INVALID', 'there is no frame to send', '/frames');
    const list = new FrameList(spec.bytes, spec.lengths, spec.times);
    const ledger = this.machine.frames.openRun(0, 0);
    const scope =
      at.kind === 'guest'
        ? this.bridgeScope(at.nic.guest.host.name, at.nic.document.bridge)
        : at.kind === 'wire'
          ? this.bridgeScope(at.nic.host, at.nic.bridge)
          : this.bridgeScope(at.bridge.host, at.bridge.name);
    const run = new Run(this.machine, spec.id, spec.kind, at.name, null, ledger, scope);
    if (at.kind === 'guest') {
      const services = this.machine.services;
      const kernel = at.nic.guest.vcpu instanceof LinuxVcpu;
      const source = new RawSource(
        services,
        at.nic.nic,
        list,
        kernel
          ? { batch: 1, cost: services.ns('guest_udp_send') }
          : { batch: MAX_PKT_BURST, cost: services.ns('virtio_pmd_per_packet') },
      );
      source.ledger = ledger;
      run.stop = () => {
        source.cancel();
        this.machine.frames.sourceDone(ledger);
      };
      source.start(now);
      at.nic.guest.vcpu.addSource(source);
      return run;
    }
    const stream = new WireStream(ledger, { list });
    run.stop = () => this.cancelStream(stream, ledger);
    stream.start(now);
    if (at.kind === 'wire') at.nic.wire!.addStream(stream);
    else this.inject(at, stream);
    return run;
  }

  /** All NICs of a bridge: raw frames may go anywhere. */
  private bridgeScope(host: string, bridge: string): { nics: BuiltNic[]; hostNics: BuiltHostNic[] } {
    return {
      nics: this.machine.guests
        .filter((g) => g.host.name === host)
        .flatMap((g) => g.nics.filter((n) => n.document.bridge === bridge)),
      hostNics: this.machine.hostNics.filter((n) => n.host === host && n.bridge === bridge),
    };
  }
}
