/** What the API shows of a world at rest between two steps: conservation, NICs, rings, memory, bridges. */
import { CTL_FINGERPRINT } from '../engine/event-ring.ts';
import {
  DP_INGRESS,
  DP_OUTPUT,
  DROP_KINDS,
  EVENT_KINDS,
  KIND_STRIDE,
  PACKET_BORN,
  PACKET_CLONE,
  PACKET_DUPLICATE,
  PACKET_MERGE,
  PACKET_SEGMENT,
  PACKET_SEGMENTED,
} from '../engine/events.ts';
import { GAUGE_CONSERVATION, GAUGE_IN_FLIGHT, GAUGES, LATENCY_GAUGES } from '../engine/latency.ts';
import { LinuxBridge } from '../machine/bridge/linux-bridge.ts';
import { OvsDatapath } from '../machine/ovs/datapath/datapath.ts';
import { KernelDatapath } from '../machine/ovs/datapath/kernel-datapath.ts';
import { NetdevDatapath } from '../machine/ovs/datapath/netdev-datapath.ts';
import { formatOdpActions } from '../machine/ovs/datapath/odp-actions-text.ts';
import { formatOdpKey } from '../machine/ovs/datapath/odp-text.ts';
import { formatActions } from '../machine/ovs/flow/text/action-format.ts';
import { formatMatch } from '../machine/ovs/flow/text/match-text.ts';
import { macText } from '../machine/ovs/ofproto/mac-table.ts';
import type { Ofproto } from '../machine/ovs/ofproto/ofproto-dpif.ts';
import { copyOut } from '../machine/packet/copy.ts';
import type { NetControl } from '../machine/virtio/net/net-control.ts';
import type { DeviceQueue } from '../machine/virtio/queue/device-queue.ts';
import type { BuiltBridge, BuiltGuest, BuiltNic, Machine } from './build/machine.ts';
import type { DeviceState } from './devices/device-setup.ts';
import type { NicTransport } from './devices/nic-transport.ts';
import type { BridgeState, Conservation } from './protocol.ts';
import { Refusal } from './refusal.ts';

export function counter(machine: Machine, place: number, kind: number, column: 0 | 1 = 0): number {
  const all = new Float64Array(
    machine.arena.buffer,
    machine.catalog.layout.counters,
    machine.catalog.places.length * KIND_STRIDE * 2,
  );
  return all[(place * KIND_STRIDE + kind) * 2 + column]!;
}
function total(machine: Machine, kind: number): number {
  let n = 0;
  for (const p of machine.catalog.places) n += counter(machine, p.id, kind);
  return n;
}

/** 16 hexadecimal digits; as published last. */
export function fingerprint(machine: Machine): string {
  return new BigUint64Array(machine.arena.buffer, machine.catalog.layout.control + CTL_FINGERPRINT, 1)[0]!
    .toString(16)
    .padStart(16, '0');
}

/**
 * injected + replicated + duplicated + segments = delivered + consumed + dropped + segmented + merged + in flight. The left side and the
 * ends come from recorded events; what is in flight is counted in the rings, queues and buffers themselves.
 */
export function conservation(machine: Machine): Conservation {
  const injected = total(machine, PACKET_BORN);
  const replicated = total(machine, PACKET_CLONE);
  const duplicated = total(machine, PACKET_DUPLICATE);
  const segments = total(machine, PACKET_SEGMENT);
  const segmented = total(machine, PACKET_SEGMENTED);
  const merged = total(machine, PACKET_MERGE);
  const sumOf = (role: string): number =>
    EVENT_KINDS.filter((k) => k.role === role).reduce((n, k) => n + total(machine, k.id), 0);
  const delivered = sumOf('delivered');
  const consumed = sumOf('consumed');
  const dropped: Record<string, number> = {};
  let drops = 0;
  for (const k of DROP_KINDS) {
    const n = total(machine, k.id);
    drops += n;
    if (n > 0) dropped[k.name] = n;
  }
  let inFlight = machine.pool.live;
  for (const { setup } of machine.guests.flatMap((g) => g.nics.slice(0, 1))) {
    for (const { nic } of setup.states) {
      for (const frameOf of nic.frameOf) for (let i = 0; i < frameOf.length; i++) if (frameOf[i] !== 0) inFlight++;
    }
  }
  return {
    injected,
    replicated,
    duplicated,
    segments,
    delivered,
    consumed,
    dropped,
    segmented,
    merged,
    inFlight,
    holds:
      injected + replicated + duplicated + segments === delivered + consumed + drops + segmented + merged + inFlight,
  };
}

/** Counts conservation for the metrics, as it stands now. */
export function publishGauges(machine: Machine): void {
  const { catalog, arena } = machine;
  const gauges = new Float64Array(arena.buffer, catalog.layout.latency + LATENCY_GAUGES, GAUGES);
  const { inFlight, holds } = conservation(machine);
  gauges[GAUGE_IN_FLIGHT] = inFlight;
  gauges[GAUGE_CONSERVATION] = holds ? 1 : 0;
}

/** The state that a NIC's set-up left. */
export function deviceState(nic: BuiltNic): DeviceState {
  const state = nic.setup.states.find((s) => s.nic.wiring === nic.wiring);
  if (!state) throw new Refusal('CONFLICT', `${nic.nic.name} has not been probed yet`);
  return state;
}

/** The device of a NIC that has been made. */
export function deviceOf(nic: BuiltNic): NicTransport {
  return deviceState(nic).nic.device;
}

/** What the driver has set through the control queue, or null where the device has none. */
export function controlOf(nic: BuiltNic): NetControl | null {
  return deviceState(nic).nic.control;
}

/** The ring of queue `index` as its device holds it, or null while it does not. */
export function deviceQueue(nic: BuiltNic, index: number): DeviceQueue | null {
  const { controlDevice, device } = deviceState(nic).nic;
  if (controlDevice !== null && index === device.controlQueue) return controlDevice.end.queue;
  return nic.wiring.pairs[index >> 1]?.pair.ring((index & 1) === 0 ? 'rx' : 'tx') ?? null;
}

/** By name, with the host in front where several hosts have a guest of that name. */
export function findGuest(machine: Machine, guest: string): BuiltGuest {
  const full = (g: BuiltGuest): string => `${g.host.name}/${g.document.name}`;
  const [found, other] = machine.guests.filter(
    (g) => g.name === guest || g.document.name === guest || full(g) === guest,
  );
  if (!found) throw new Refusal('NOT_FOUND', `there is no guest ${guest}`);
  if (other) {
    const names = machine.guests.map(full).join(', ');
    throw new Refusal('NOT_FOUND', `several hosts have a guest ${guest}; expected one of ${names}`);
  }
  return found;
}
export function findNic(machine: Machine, guest: string, nic: string): BuiltNic {
  const g = findGuest(machine, guest);
  const n = g.nics.find((x) => x.document.name === nic);
  if (!n) throw new Refusal('NOT_FOUND', `guest ${guest} has no NIC ${nic}`);
  return n;
}

const hex = (n: number): string => `0x${n.toString(16)}`;
/** Raw bytes of a guest's RAM. */
export function guestMemory(machine: Machine, guest: string, address: number, length: number): Uint8Array {
  const g = findGuest(machine, guest);
  if (address + length > g.vm.ramBytes) {
    throw new Refusal(
      'INVALID',
      `${hex(address)} + ${length} is beyond the guest's memory of ${g.vm.ramBytes} bytes`,
      '/address',
    );
  }
  return copyOut(machine.arena, g.vm.ram + address, length);
}

/** A bridge by its name, `host/bridge` where several hosts have one of that name. Throws Refusal. */
export function findBridge(machine: Machine, name: string): BuiltBridge {
  const full = (b: BuiltBridge): string => `${b.host}/${b.name}`;
  const [built, other] = machine.bridges.filter((b) => b.name === name || full(b) === name);
  if (!built) throw new Refusal('NOT_FOUND', `there is no bridge ${name}`);
  if (other) {
    const names = machine.bridges.map(full).join(', ');
    throw new Refusal('NOT_FOUND', `several hosts have a bridge ${name}; expected one of ${names}`);
  }
  return built;
}
export function bridgeState(machine: Machine, name: string): BridgeState {
  return bridgeStateOf(machine, findBridge(machine, name));
}

function bridgeStateOf(machine: Machine, built: BuiltBridge): BridgeState {
  const { bridge } = built;
  const now = machine.scheduler.now[0]!;
  const portName = (n: number): string => bridge.port(n).name;
  const own = new Set(built.ports().map((port) => port.number));
  // flows are the datapath's, which several bridges may share
  const flows = bridge instanceof OvsDatapath ? bridge.allFlows().filter((flow) => own.has(flow.inPort)) : [];
  const ofproto = ofprotoOf(machine, built);
  // what datapath flows have counted belongs to the rules that they came of
  if (bridge instanceof OvsDatapath) bridge.creditAll();
  return {
    name: built.name,
    host: built.host,
    datapath: built.datapath,
    ports: built.ports().map((p) => {
      const related = machine.catalog.places.filter(
        (x) => x.id === p.place || x.name === `${machine.catalog.places[p.place]!.name}/tap`,
      );
      const drops: Record<string, number> = {};
      for (const k of DROP_KINDS) {
        const n = related.reduce((sum, x) => sum + counter(machine, x.id, k.id), 0);
        if (n > 0) drops[k.name] = n;
      }
      return {
        name: p.name,
        number: p.number,
        type: p.type,
        rxPackets: counter(machine, p.place, DP_INGRESS),
        rxBytes: counter(machine, p.place, DP_INGRESS, 1),
        txPackets: counter(machine, p.place, DP_OUTPUT),
        txBytes: counter(machine, p.place, DP_OUTPUT, 1),
        drops,
        mtu: p.mtu,
        offloads: p.features(),
      };
    }),
    fdb: fdbOf(machine, built, now),
    flows: ofproto === null ? [] : openFlows(ofproto),
    datapathFlows: flows.map((f) => ({
      ufid: f.id.toString(16).padStart(8, '0'),
      match: formatOdpKey(bridge instanceof NetdevDatapath ? f.full : f.key, f.mask, {
        portName,
        packetType: bridge instanceof NetdevDatapath,
      }),
      actions: formatOdpActions(f.actions, portName),
      packets: f.packets,
      bytes: f.bytes,
      usedSeconds: f.used < 0 ? null : (now - f.used) / 1e9,
    })),
    caches:
      bridge instanceof KernelDatapath
        ? kernelCaches(bridge)
        : bridge instanceof NetdevDatapath
          ? netdevCaches(bridge)
          : bridge instanceof LinuxBridge
            ? { forwarded: bridge.forwarded, flooded: bridge.flooded, 'fdb entries': bridge.fdb.length }
            : {},
  };
}

function ofprotoOf(machine: Machine, { ovs, host, name }: BuiltBridge): Ofproto | null {
  if (ovs === null) return null;
  return machine.ovs.find((o) => o.host === host)?.switch.switches.get(name)?.ofproto ?? null;
}
/** Learned addresses. */
function fdbOf(machine: Machine, built: BuiltBridge, now: number): BridgeState['fdb'] {
  const { bridge } = built;
  if (bridge instanceof LinuxBridge)
    return bridge.fdb.rows(now).map(({ mac, port, updated }) => ({
      port: bridge.port(port).name,
      vlan: 0,
      mac,
      ageSeconds: Math.floor((now - updated) / 1e9),
    }));
  const macs = ofprotoOf(machine, built)?.macs;
  if (macs === undefined) return [];
  return Array.from(macs.entries(now), (entry) => ({
    port: entry.bundle.name,
    vlan: entry.vlan,
    mac: macText(entry.mac),
    ageSeconds: macs.age(entry, now) ?? 0,
  }));
}
/** The OpenFlow flows that clients see. */
function openFlows(ofproto: Ofproto): BridgeState['flows'] {
  return ofproto.tables.tables.flatMap((table) =>
    [...table.classifier.rules()]
      .filter((rule) => !rule.hidden)
      .map((rule) => ({
        table: rule.table,
        priority: rule.priority,
        match: formatMatch(rule.match),
        actions: formatActions(rule.actions),
        packets: rule.packets,
        bytes: rule.bytes,
      })),
  );
}

/** `ovs-dpctl show`. */
function kernelCaches(d: KernelDatapath): Record<string, number> {
  const lookups = d.hits + d.missed;
  return {
    'lookups hit': d.hits,
    'lookups missed': d.missed,
    'lookups lost': d.lost,
    flows: d.table.flows.length,
    'masks hit': d.masksProbed,
    'masks total': d.table.masks,
    'masks hit/pkt': lookups === 0 ? 0 : d.masksProbed / lookups,
    'cache hit': d.cacheHits,
    'upcalls waiting': d.upcallsWaiting,
  };
}
/** `ovs-appctl dpif-netdev/pmd-stats-show`. */
function netdevCaches(d: NetdevDatapath): Record<string, number> {
  return {
    'packets received': d.packetsReceived,
    'packet recirculations': d.packetRecirculations,
    'avg. datapath passes per packet':
      d.packetsReceived === 0 ? 0 : (d.packetsReceived + d.packetRecirculations) / d.packetsReceived,
    'emc hits': d.emcHits,
    'smc hits': d.smcHits,
    'megaflow hits': d.megaflowHits,
    'avg. subtable lookups per megaflow hit': d.megaflowHits === 0 ? 0 : d.subtableLookups / d.megaflowHits,
    'miss with success upcall': d.missWithSuccessUpcall,
    'miss with failed upcall': d.missWithFailedUpcall,
    'emc entries': d.emcEntries,
    flows: d.flowCount,
  };
}
