/**
 * From what a user wrote to the form that the builder takes, and back: reads a topology document (JSON or YAML), checks
 * it as a whole, and writes out its complete form. The canonical document is written from the topology alone, so two
 * texts that mean the same topology give the same document. The fields are in document-schema.ts, the checks in
 * validate.ts.
 */

import { isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { type CostProfile, type ProfileBook, SHIPPED_PROFILES } from '../engine/cost-profile.ts';
import { DEFAULT_LIMITS, type Limits } from './document-checks.ts';
import {
  type Draft,
  type DraftGuest,
  type DraftGuestNic,
  type DraftHost,
  type DraftHostNic,
  type DraftLink,
  readDraft,
} from './document-draft.ts';
import { type Fault, Faults, MAX_FAULTS } from './document-faults.ts';
import { FEATURES, writtenFeatures } from './document-features.ts';
import { type TopologyDocument, VHOST_PACKET_WEIGHT } from './document-schema.ts';
import type { Coalescing, Guest, GuestNic, Host, HostNic, Link, PageSize, Topology } from './topology.ts';
import {
  type Address,
  type Address6,
  formatAddress,
  formatAddress6,
  formatDuration,
  formatMac,
  formatRate,
  formatSize,
  formatTime,
  isAddress6,
  show,
} from './units.ts';
import { checkMeaning, splitEnd } from './validate.ts';
import { defaultVectors } from './validate-guest.ts';
import { ovsBridgeDocument, ovsBridgeOf, ovsHostDocument, ovsHostOf, plugDocument, vlanOf } from './validate-ovs.ts';

export interface ParseOptions {
  /** The name that the document is put under; one inside the document must be the same. */
  readonly name?: string;
  readonly limits?: Partial<Limits>;
  /** Names of the cost table. Without them any name is taken. */
  readonly knownCosts?: ReadonlySet<string>;
  /** Profiles that a document may name. Default: those that come with Ringside. */
  readonly profiles?: ProfileBook;
}
export type ParsedTopology =
  | { readonly ok: true; readonly topology: Topology; readonly document: TopologyDocument }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** Never throws. All faults at once, at most MAX_FAULTS of them. */
export function parseTopology(document: unknown, options: ParseOptions = {}): ParsedTopology {
  const faults = new Faults(document);
  const profiles = options.profiles ?? SHIPPED_PROFILES;
  const draft = readDraft(document, faults);
  if (draft !== undefined) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    checkMeaning(draft, { name: options.name, limits, knownCosts: options.knownCosts, profiles }, faults);
  }
  if (draft === undefined || faults.list.length > 0) return { ok: false, faults: faults.list };
  const topology = topologyOf(draft, profiles);
  return { ok: true, topology, document: documentOf(topology) };
}

// ---- draft to topology ------------------------------------------------------------------------------------------
/** Without faults nothing is missing: the shape pass filled in what has a default, the checks what depends on others. */
function sure<T>(value: T): NonNullable<T> {
  if (value === undefined || value === null) throw new Error('a document without faults has a field without a value');
  return value;
}
function all<T, U>(items: readonly (T | undefined)[] | undefined, map: (item: T) => U): U[] {
  return sure(items).map((item) => map(sure(item) as T));
}
function topologyOf(draft: Draft, profiles: ProfileBook): Topology {
  const clock = sure(draft.clock);
  const recorder = sure(draft.recorder);
  const hosts = all(draft.hosts, hostOf);
  return {
    name: sure(draft.name),
    seed: sure(draft.seed),
    epochNs: String(sure(draft.epoch)),
    clock: sure(clock.mode),
    clockFactor: sure(clock.factor),
    eventCapacity: sure(recorder.events),
    byteCapacity: sure(recorder.bytes),
    recordDescriptors: sure(recorder.descriptors),
    debug: sure(draft.debug),
    costProfile: plainProfile(sure(profiles.get(sure(draft.costProfile)))),
    costs: sorted(sure(draft.costs)),
    hosts,
    links: all(draft.links, (link) => linkOf(link, hosts)),
  };
}
/** Without what a book's entries know beside: a topology goes to other threads. */
function plainProfile({ name, costs }: CostProfile): CostProfile {
  return { name, costs };
}
function sorted(costs: Readonly<Record<string, number | undefined>>): Record<string, number> {
  const entries = Object.entries(costs).map(([name, value]): [string, number] => [name, sure(value)]);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}
function hostOf(host: DraftHost): Host {
  return {
    name: sure(host.name),
    cores: sure(host.cores),
    hugepages: hostHugepagesOf(host),
    iommu: sure(host.iommu),
    vhostPacketWeight: sure(host.vhostPacketWeight),
    ovs: ovsHostOf(host),
    bridges: all(host.bridges, (bridge) => ({
      name: sure(bridge.name),
      datapath: sure(bridge.datapath),
      macTableSize: sure(bridge.macTableSize),
      macAgingSeconds: sure(bridge.macAgingTime),
      userspaceTso: sure(bridge.userspaceTso),
      pmds: sure(bridge.pmds),
      ...ovsBridgeOf(bridge),
    })),
    nics: all(host.nics, hostNicOf),
    guests: all(host.guests, guestOf),
  };
}
function hostNicOf(nic: DraftHostNic): HostNic {
  const offloads = sure(nic.offloads);
  return {
    name: sure(nic.name),
    speed: sure(nic.speed),
    bridge: sure(nic.bridge),
    queues: sure(nic.queues),
    rxRing: sure(nic.rxRing),
    txRing: sure(nic.txRing),
    maxFramesPerSecond: sure(nic.maxFramesPerSecond),
    offloads: {
      txChecksum: sure(offloads.txChecksum),
      rxChecksum: sure(offloads.rxChecksum),
      tso: sure(offloads.tso),
      gro: sure(offloads.gro),
      lro: sure(offloads.lro),
    },
    plugged: sure(nic.plugged),
    ...vlanOf(nic),
  };
}
function guestOf(guest: DraftGuest): Guest {
  return {
    name: sure(guest.name),
    vmm: sure(guest.vmm),
    vcpus: sure(guest.vcpus),
    memory: sure(guest.memory),
    app: sure(guest.app),
    haltPollNs: sure(guest.haltPollNs),
    postedInterrupts: sure(guest.postedInterrupts),
    iommu: iommuOf(guest),
    hugepages: sure(guest.hugepages),
    dpdk: dpdkOf(guest),
    nics: all(guest.nics, guestNicOf),
  };
}
function dpdkOf({ dpdk }: DraftGuest): Guest['dpdk'] {
  return dpdk === null || dpdk === undefined
    ? null
    : { hugepages: sure(dpdk.hugepages), mempool: dpdk.mempool ?? null };
}
function hostHugepagesOf({ hugepages }: DraftHost): Host['hugepages'] {
  if (hugepages === null || hugepages === undefined) return null;
  return { '2MiB': sure(hugepages['2MiB']), '1GiB': sure(hugepages['1GiB']), socketMem: sure(hugepages.socketMem) };
}
function dpdkDocument({ hugepages, mempool }: NonNullable<Guest['dpdk']>): {
  hugepages: PageSize;
  mempool?: number;
} {
  return { hugepages, ...(mempool === null ? {} : { mempool }) };
}
function iommuOf({ iommu }: DraftGuest): Guest['iommu'] {
  return iommu === null || iommu === undefined
    ? null
    : { mode: sure(iommu.mode), cachingMode: sure(iommu.cachingMode) };
}
function guestNicOf(nic: DraftGuestNic): GuestNic {
  const features = Object.fromEntries(FEATURES.map((name) => [name, sure(sure(nic.features)[name])]));
  const addresses = all(nic.addresses, (address) => address);
  return {
    name: sure(nic.name),
    bridge: sure(nic.bridge),
    backend: sure(nic.backend),
    driver: sure(nic.driver),
    mac: sure(nic.mac),
    addresses: addresses.filter((a): a is Address => !isAddress6(a)),
    addresses6: addresses.filter((a): a is Address6 => isAddress6(a)),
    queueSize: sure(nic.queueSize),
    queuePairs: sure(nic.queuePairs),
    packed: sure(nic.packed),
    transport: sure(nic.transport),
    vectors: sure(nic.vectors),
    mtu: nic.mtu ?? null,
    speed: nic.speed ?? null,
    duplex: nic.duplex ?? null,
    ioeventfd: sure(nic.ioeventfd),
    tx: sure(nic.tx),
    txTimer: sure(nic.txTimer),
    pollUs: sure(nic.pollUs),
    vhostUser: vhostUserOf(nic),
    features,
    coalescing: coalescingOf(nic),
    tapQueueLength: sure(nic.tapQueueLength),
    plugged: sure(nic.plugged),
    ...vlanOf(nic),
  };
}
function vhostUserOf({ vhostUser }: DraftGuestNic): GuestNic['vhostUser'] {
  if (vhostUser === null || vhostUser === undefined) return null;
  const { mode, reconnectMs, inflight } = vhostUser;
  return { mode: sure(mode), reconnectMs: sure(reconnectMs), inflight: sure(inflight) };
}
function coalescingOf({ coalescing }: DraftGuestNic): GuestNic['coalescing'] {
  if (coalescing === null || coalescing === undefined) return null;
  const of = (which: 'rx' | 'tx'): Coalescing => {
    const { usecs, packets } = sure(coalescing[which]);
    return { usecs: sure(usecs), packets: sure(packets) };
  };
  return { rx: of('rx'), tx: of('tx') };
}
function linkOf(link: DraftLink, hosts: readonly Host[]): Link {
  const [first, second] = all(link.ends, (end) => sure(splitEnd(end, hosts)));
  return {
    name: sure(link.name),
    ends: [sure(first), sure(second)],
    rate: sure(link.rate),
    latencyNs: sure(link.latency),
    loss: sure(link.loss),
  };
}

// ---- topology to document ---------------------------------------------------------------------------------------
/** The complete document of a topology, in the schema's order of fields. parseTopology takes it back to the same one. */
export function documentOf(topology: Topology): TopologyDocument {
  return {
    name: topology.name,
    seed: topology.seed,
    debug: topology.debug,
    clock: { mode: topology.clock, factor: topology.clockFactor },
    epoch: formatTime(BigInt(topology.epochNs)),
    recorder: {
      events: topology.eventCapacity,
      bytes: formatSize(topology.byteCapacity),
      descriptors: topology.recordDescriptors,
    },
    costProfile: topology.costProfile.name,
    costs: { ...topology.costs },
    hosts: topology.hosts.map((host) => ({
      name: host.name,
      cores: host.cores,
      ...(host.iommu ? { iommu: true } : {}),
      ...(host.vhostPacketWeight === VHOST_PACKET_WEIGHT ? {} : { vhostPacketWeight: host.vhostPacketWeight }),
      ...(host.hugepages === null
        ? {}
        : { hugepages: { ...host.hugepages, socketMem: formatSize(host.hugepages.socketMem) } }),
      ...ovsHostDocument(host.ovs),
      bridges: host.bridges.map(({ name, datapath, macTableSize, macAgingSeconds, userspaceTso, pmds, ...ovs }) => ({
        name,
        datapath,
        macTableSize,
        macAgingTime: macAgingSeconds,
        userspaceTso,
        pmds,
        ...ovsBridgeDocument(ovs),
      })),
      nics: host.nics.map((nic) => ({
        name: nic.name,
        speed: formatRate(nic.speed),
        bridge: nic.bridge,
        ...(nic.queues === 1 ? {} : { queues: nic.queues }),
        rxRing: nic.rxRing,
        txRing: nic.txRing,
        ...(nic.maxFramesPerSecond === 0 ? {} : { maxFramesPerSecond: nic.maxFramesPerSecond }),
        offloads: { ...nic.offloads },
        ...plugDocument(nic),
      })),
      guests: host.guests.map((guest) => ({
        name: guest.name,
        vmm: guest.vmm,
        vcpus: guest.vcpus,
        memory: formatSize(guest.memory),
        app: guest.app,
        haltPollNs: guest.haltPollNs,
        postedInterrupts: guest.postedInterrupts,
        ...(guest.iommu === null ? {} : { iommu: { ...guest.iommu } }),
        hugepages: guest.hugepages,
        ...(guest.dpdk === null ? {} : { dpdk: dpdkDocument(guest.dpdk) }),
        nics: guest.nics.map((nic) => nicDocument(nic, guest)),
      })),
    })),
    links: topology.links.map((link) => ({
      name: link.name,
      ends: link.ends.map((end) => `${end.host}/${end.nic}`),
      rate: formatRate(link.rate),
      latency: formatDuration(link.latencyNs),
      loss: link.loss,
    })),
  };
}

type GuestNicDocument = NonNullable<
  NonNullable<NonNullable<TopologyDocument['hosts'][number]['guests']>[number]['nics']>[number]
>;
/** What follows from other fields is left out, so that it goes on following when they are changed. */
function nicDocument(nic: GuestNic, { vmm, iommu }: Guest): GuestNicDocument {
  return {
    name: nic.name,
    bridge: nic.bridge,
    backend: nic.backend,
    driver: nic.driver,
    mac: formatMac(nic.mac),
    addresses: [...nic.addresses.map(formatAddress), ...nic.addresses6.map(formatAddress6)],
    queueSize: nic.queueSize,
    queuePairs: nic.queuePairs,
    packed: nic.packed,
    transport: nic.transport,
    ...(nic.vectors === defaultVectors(nic) ? {} : { vectors: nic.vectors }),
    ...(nic.mtu === null ? {} : { mtu: nic.mtu }),
    ...(nic.speed === null ? {} : { speed: nic.speed }),
    ...(nic.duplex === null ? {} : { duplex: nic.duplex }),
    ioeventfd: nic.ioeventfd,
    tx: nic.tx,
    txTimer: nic.txTimer,
    pollUs: nic.pollUs,
    ...(nic.vhostUser === null ? {} : { vhostUser: { ...nic.vhostUser } }),
    features: writtenFeatures({ ...nic, vmm, iommu: iommu !== null }),
    ...(nic.coalescing === null ? {} : { coalescing: { rx: { ...nic.coalescing.rx }, tx: { ...nic.coalescing.tx } } }),
    tapQueueLength: nic.tapQueueLength,
    ...plugDocument(nic),
  };
}

/** Whether two complete documents are the same; the order of fields does not matter, the order of lists does. */
export function equalDocuments(a: TopologyDocument, b: TopologyDocument): boolean {
  return same(a, b);
}
function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every(
    (key) => Object.hasOwn(b, key) && same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]),
  );
}

// ---- text -------------------------------------------------------------------------------------------------------
/**
 * Bounds on the time that a hostile text takes of the API thread (measured: the YAML package needs up to 4 s for 1 MiB of
 * brackets). A complete document of 64 guests is 50 KiB.
 */
export const MAX_TEXT_LENGTH = { json: 1 << 20, yaml: 1 << 17 } as const;
/** Anchors save some repetition; more of it is a bomb. */
const MAX_ALIASES = 50;

export type ParsedText =
  | { readonly ok: true; readonly document: unknown }
  | { readonly ok: false; readonly faults: readonly Fault[] };

function syntax(detail: string, line?: number, column?: number): { ok: false; faults: Fault[] } {
  const fault: Fault = { pointer: '', code: 'syntax', detail };
  if (line === undefined || column === undefined) return { ok: false, faults: [fault] };
  return { ok: false, faults: [{ ...fault, detail: `line ${line}, column ${column}: ${detail}`, line, column }] };
}

/** Never throws. */
export function parseDocumentText(text: string, format: 'json' | 'yaml'): ParsedText {
  const most = MAX_TEXT_LENGTH[format];
  if (text.length > most) {
    const detail = `${text.length} characters of ${format === 'json' ? 'JSON' : 'YAML'}`;
    return { ok: false, faults: [{ pointer: '', code: 'too-large', detail, expected: `at most ${most}` }] };
  }
  return format === 'json' ? parseJson(text) : parseYaml(text);
}

function parseJson(text: string): ParsedText {
  try {
    return { ok: true, document: JSON.parse(text) as unknown };
  } catch {
    const at = jsonErrorOffset(text);
    const before = text.slice(0, at);
    const line = before.split('\n').length;
    const column = at - before.lastIndexOf('\n');
    const found = at >= text.length ? 'the text ends too early' : `${show(text.slice(at, at + 12))} is unexpected`;
    return syntax(`this is not JSON: ${found}`, line, column);
  }
}
const JSON_SPACE = /[ \t\n\r]*/y;
const JSON_TOKEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 8259 §7 forbids just these inside a string
  /([[{])|([\]}])|(,)|(:)|("[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\u0000-\u001f]*)*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)(?![\w.+-])/y;
/** Where a text stops being JSON. JSON.parse says it only sometimes, and each engine in its own words (RFC 8259). */
function jsonErrorOffset(text: string): number {
  const open: string[] = [];
  // What may come next: a value, a key, a colon, or what follows a value. `empty`: right after an opening bracket.
  let want: 'value' | 'key' | 'colon' | 'after' = 'value';
  let empty = false;
  for (let at = 0; ; at = JSON_TOKEN.lastIndex) {
    JSON_SPACE.lastIndex = at;
    JSON_SPACE.test(text);
    const start = JSON_SPACE.lastIndex;
    JSON_TOKEN.lastIndex = start;
    const m = JSON_TOKEN.exec(text);
    if (m === null) return start;
    const [, opening, closing, comma, colon, string, scalar] = m;
    const inner = open.at(-1);
    if (opening !== undefined && want === 'value') {
      open.push(opening);
      want = opening === '{' ? 'key' : 'value';
      empty = true;
      continue;
    }
    const closes = closing !== undefined && inner === (closing === ']' ? '[' : '{') && (want === 'after' || empty);
    if (closes) open.pop();
    if (closes || ((string ?? scalar) !== undefined && want === 'value')) want = 'after';
    else if (string !== undefined && want === 'key') want = 'colon';
    else if (colon !== undefined && want === 'colon') want = 'value';
    else if (comma !== undefined && want === 'after' && inner !== undefined) want = inner === '{' ? 'key' : 'value';
    else return start;
    empty = false;
  }
}

/** The package recurses: a text of a hundred thousand brackets ends here. */
const TOO_DEEP = syntax('the YAML text is nested too deeply');
function parseYaml(text: string): ParsedText {
  const lines = new LineCounter();
  try {
    // Unique keys are checked below: the package compares every key with every other. `core` is YAML 1.2, without the
    // surprises of 1.1 (`no`, `1:30`).
    const yaml = parseDocument(text, {
      version: '1.2',
      schema: 'core',
      uniqueKeys: false,
      stringKeys: true,
      prettyErrors: false,
      lineCounter: lines,
    });
    const faults: Fault[] = [];
    const add = (code: 'syntax' | 'duplicate-key', offset: number, detail: string): void => {
      const { line, col } = lines.linePos(offset);
      if (faults.length < MAX_FAULTS)
        faults.push({ pointer: '', code, detail: `line ${line}, column ${col}: ${detail}`, line, column: col });
    };
    for (const error of yaml.errors) {
      if (error.code === 'RESOURCE_EXHAUSTION') return TOO_DEEP;
      const second = error.code === 'MULTIPLE_DOCS';
      add('syntax', error.pos[0], second ? 'a second document begins here' : `this is not YAML: ${error.message}`);
    }
    if (faults.length > 0) return { ok: false, faults };
    visit(yaml, {
      Map(_, map) {
        const seen = new Set<unknown>();
        for (const { key } of map.items) {
          if (!isScalar(key)) continue;
          if (seen.has(key.value)) add('duplicate-key', key.range?.[0] ?? 0, `${show(key.value)} is here twice`);
          seen.add(key.value);
        }
      },
    });
    if (faults.length > 0) return { ok: false, faults };
    return { ok: true, document: yaml.toJS({ maxAliasCount: MAX_ALIASES }) as unknown };
  } catch (error) {
    if (error instanceof ReferenceError) return syntax('the YAML text uses too many aliases, or one that is not there');
    return TOO_DEEP;
  }
}
