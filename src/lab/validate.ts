/**
 * Finds everything that is wrong with a topology document, in one pass over it: first its shape, read off the published
 * schema, then what a schema cannot say (references, duplicates, sums). What has a fault is left out of the second pass,
 * so that one mistake is reported once. Read document-schema.ts first; document.ts is the entrance.
 */
import type { ProfileBook } from '../engine/cost-profile.ts';
import { type MemoryNeeds, planMemory } from './build/memory.ts';
import {
  allNamed,
  checkBridge,
  checkPower,
  checkRange,
  defaultBridge,
  type Limits,
  Unique,
} from './document-checks.ts';
import {
  type Draft,
  type DraftGuestNic,
  type DraftHost,
  type DraftHostNic,
  eachOf,
  type Items,
  type Maybe,
} from './document-draft.ts';
import { child, type Faults, oneOf, suggestion } from './document-faults.ts';
import { RANGES } from './document-schema.ts';
import * as units from './units.ts';
import { formatMac, formatRate, formatSize, show } from './units.ts';
import { checkGuest } from './validate-guest.ts';
import { checkHugepages } from './validate-hugepages.ts';
import { checkOvs } from './validate-ovs.ts';

const MiB = 1 << 20;
export interface Rules {
  /** The name that the document is put under, where there is one. */
  readonly name: string | undefined;
  readonly limits: Limits;
  readonly knownCosts: ReadonlySet<string> | undefined;
  readonly profiles: ProfileBook;
}

/**
 * Checks what the fields mean together, and fills in the defaults that depend on other fields (MAC addresses, bridges,
 * names and rates of links). After a pass without faults the draft has no `undefined` and no `null` left in it.
 */
export function checkMeaning(draft: Draft, rules: Rules, faults: Faults): void {
  checkName(draft, rules, faults);
  checkPower(draft.recorder?.events, '/recorder/events', faults);
  checkRange(draft.recorder?.bytes, RANGES.recorderBytes, formatSize, '/recorder/bytes', faults);
  checkPower(draft.recorder?.bytes, '/recorder/bytes', faults, formatSize);
  checkCosts(draft, rules, faults);
  checkCounts(draft, rules.limits, faults);
  const hostNames = new Unique(faults, 'duplicate-name');
  eachOf(draft.hosts, '/hosts', (host, at, index) => {
    host.name ??= host.name === null ? `h${index + 1}` : undefined;
    hostNames.claim(host.name, `${at}/name`, 'the name of another host');
  });
  eachOf(draft.hosts, '/hosts', (host, at) => checkHost(host, at, rules.limits, faults));
  checkAddresses(draft, faults);
  checkLinks(draft, faults);
  checkPlaces(draft, faults);
  checkWorldMemory(draft, rules.limits, faults);
}

function checkName(draft: Draft, rules: Rules, faults: Faults): void {
  if (rules.name === undefined) {
    if (draft.name === null) faults.add('/name', 'missing-field', '"name" is missing', units.NAME_EXPECTED);
    return;
  }
  const path = units.parseName(rules.name);
  if (!path.ok) faults.add('/name', 'bad-name', path.detail, path.expected);
  else if (draft.name === null) draft.name = path.value;
  else if (draft.name !== undefined && draft.name !== path.value)
    faults.add(
      '/name',
      'name-mismatch',
      `the document is named ${show(draft.name)} but put under ${show(path.value)}`,
      `${show(path.value)}, or no name`,
    );
}

function checkCosts(draft: Draft, rules: Rules, faults: Faults): void {
  const { costProfile } = draft;
  if (costProfile !== undefined && !rules.profiles.has(costProfile))
    faults.add(
      '/costProfile',
      'unknown-profile',
      `there is no cost profile ${show(costProfile)}`,
      suggestion(costProfile, rules.profiles.keys()) ?? oneOf(rules.profiles.keys()),
    );
  const known = rules.knownCosts;
  if (known === undefined) return;
  for (const name of Object.keys(draft.costs ?? {}))
    if (!known.has(name))
      faults.add(
        child('/costs', name),
        'unknown-cost',
        `${show(name)} is not in the cost table`,
        suggestion(name, known) ?? 'a name from the cost table',
      );
}

function checkCounts(draft: Draft, limits: Limits, faults: Faults): void {
  const hosts = draft.hosts?.length ?? 0;
  if (hosts > limits.maxHosts) faults.add('/hosts', 'too-many', `${hosts} hosts`, `at most ${limits.maxHosts}`);
  let guests = 0;
  eachOf(draft.hosts, '/hosts', (host) => {
    guests += host.guests?.length ?? 0;
  });
  if (guests > limits.maxGuests)
    faults.add('/hosts', 'too-many', `${guests} guests`, `at most ${limits.maxGuests} in a topology`);
}

// ---- one host ---------------------------------------------------------------------------------------------------
function checkHost(host: DraftHost, at: string, limits: Limits, faults: Faults): void {
  // Bridges, NICs and guests share one set of names: ends, places and captures name them without saying which they are,
  // and a bridge and a NIC of one name would be two devices, or two ports, of one name.
  const names = new Unique(faults, 'duplicate-name');
  const claim = (name: Maybe<string>, pointer: string, owner: string): void => {
    names.claim(name, pointer, owner);
    if (name !== undefined && name === host.name)
      faults.add(pointer, 'duplicate-name', `${show(name)} is the name of the host, with which ends may begin`);
  };
  eachOf(host.bridges, `${at}/bridges`, (b, p) => claim(b.name, `${p}/name`, 'the name of a bridge of this host'));
  eachOf(host.nics, `${at}/nics`, (n, p) => claim(n.name, `${p}/name`, 'the name of a NIC of this host'));
  eachOf(host.guests, `${at}/guests`, (g, p) => claim(g.name, `${p}/name`, 'the name of a guest of this host'));

  eachOf(host.nics, `${at}/nics`, (nic, p) => {
    checkRange(nic.speed, RANGES.speed, formatRate, `${p}/speed`, faults);
    checkPower(nic.rxRing, `${p}/rxRing`, faults);
    checkPower(nic.txRing, `${p}/txRing`, faults);
    if (nic.bridge === null) nic.bridge = defaultBridge(host, undefined, p, faults);
    else checkBridge(host, nic.bridge, undefined, p, faults);
    checkOffloads(nic, p, faults);
  });
  eachOf(host.bridges, `${at}/bridges`, (bridge, p) => {
    if (bridge.userspaceTso === true && bridge.datapath !== undefined && bridge.datapath !== 'netdev')
      faults.add(
        `${p}/userspaceTso`,
        'wrong-datapath',
        `userspace TSO is a matter of the netdev datapath, and this bridge has the ${bridge.datapath} one`,
        'false, or "datapath": "netdev"',
      );
    if ((bridge.pmds ?? 1) > 1 && bridge.datapath !== undefined && bridge.datapath !== 'netdev')
      faults.add(
        `${p}/pmds`,
        'wrong-datapath',
        `the ${bridge.datapath} datapath has no poll-mode threads`,
        '1, or "datapath": "netdev"',
      );
  });
  eachOf(host.guests, `${at}/guests`, (guest, p) => checkGuest(host, guest, p, limits, faults));
  checkOvs(host, at, faults);
  checkCores(host, at, faults);
  checkHugepages(host, at, faults);
}

/** linux net/core/dev.c, netdev_fix_features(): no segmentation without checksums. */
function checkOffloads(nic: DraftHostNic, at: string, faults: Faults): void {
  const { offloads } = nic;
  if (offloads === undefined) return;
  if (offloads.tso === null) offloads.tso = offloads.txChecksum;
  else if (offloads.tso === true && offloads.txChecksum === false)
    faults.add(
      `${at}/offloads/tso`,
      'wrong-feature',
      'tso needs txChecksum, which is off: a segment needs a checksum of its own',
      'false, or "txChecksum": true',
    );
}

function checkCores(host: DraftHost, at: string, faults: Faults): void {
  if (host.cores === undefined) return;
  const pollers: string[] = [];
  const pmds = Math.max(0, ...(host.bridges ?? []).map((b) => (b?.datapath === 'netdev' ? (b.pmds ?? 1) : 0)));
  for (let i = 0; i < pmds; i++) pollers.push('the netdev datapath');
  for (const guest of host.guests ?? []) {
    if (!guest?.nics?.some((nic) => nic?.driver === 'virtio-pmd')) continue;
    const pairs = Math.max(1, ...guest.nics.map((nic) => nic?.queuePairs ?? 1));
    for (let i = 0; i < Math.min(guest.vcpus ?? 1, pairs); i++) pollers.push(`guest ${guest.name ?? '?'}`);
  }
  if (pollers.length <= host.cores - 1) return;
  const names = [...new Set(pollers)];
  const who = names.slice(0, 6).join(', ') + (names.length > 6 ? ' and others' : '');
  faults.add(
    `${at}/cores`,
    'not-enough-cores',
    `${pollers.length} polling threads (${who}) need a core each, and the rest of the host one more; it has ${host.cores}`,
    `at least ${pollers.length + 1}`,
  );
}

// ---- the whole document -----------------------------------------------------------------------------------------
function checkAddresses(draft: Draft, faults: Faults): void {
  const macs = new Unique(faults, 'duplicate-mac');
  const ips = new Unique(faults, 'duplicate-address');
  const taken = new Set<string>();
  const unset: DraftGuestNic[] = [];
  eachOf(draft.hosts, '/hosts', (host, h) =>
    eachOf(host.guests, `${h}/guests`, (guest, g) =>
      eachOf(guest.nics, `${g}/nics`, (nic, n) => {
        const owner = `${guest.name ?? '?'}/${nic.name ?? '?'}`;
        if (nic.mac === null) unset.push(nic);
        else if (nic.mac !== undefined) {
          taken.add(formatMac(nic.mac));
          macs.claim(formatMac(nic.mac), `${n}/mac`, `the MAC address of ${owner}`);
        }
        eachOf(nic.addresses, `${n}/addresses`, (address, p) =>
          ips.claim(
            units.isAddress6(address) ? units.formatIpv6(address.ip) : units.formatIpv4(address.ip),
            p,
            `an address of ${owner}`,
          ),
        );
      }),
    ),
  );
  let next = 1;
  for (const nic of unset) {
    // 52:54:00 is the prefix of QEMU and KVM guests.
    let mac: number[];
    do {
      mac = [0x52, 0x54, 0, (next >>> 16) & 255, (next >>> 8) & 255, next & 255];
      next++;
    } while (taken.has(formatMac(mac)));
    nic.mac = mac;
  }
}

/** `host/nic`; the host may be left out where there is only one. Null: not an end. */
export function splitEnd(
  end: string,
  hosts: readonly { readonly name: string }[],
): { host: string; nic: string } | null {
  const parts = end.split('/');
  const [first = '', second = ''] = parts;
  if (parts.length === 2) return { host: first, nic: second };
  return parts.length === 1 && hosts.length === 1 ? { host: hosts[0]?.name ?? '', nic: first } : null;
}

function checkLinks(draft: Draft, faults: Faults): void {
  const names = new Unique(faults, 'duplicate-name');
  const inUse = new Map<string, string>();
  const hosts = (draft.hosts ?? []).map((host) => ({ name: host?.name ?? '' }));
  const speeds = new Map<string, Maybe<number>>();
  for (const host of draft.hosts ?? [])
    for (const nic of host?.nics ?? []) if (host?.name && nic?.name) speeds.set(`${host.name}/${nic.name}`, nic.speed);
  const complete = allNamed(draft.hosts) && (draft.hosts ?? []).every((host) => allNamed(host?.nics));

  eachOf(draft.links, '/links', (link, at, index) => {
    if (link.name === null) link.name = `link${index + 1}`;
    names.claim(link.name, `${at}/name`, 'the name of another link');
    checkRange(link.latency, RANGES.latency, units.formatDuration, `${at}/latency`, faults);
    if (link.rate !== null) checkRange(link.rate, RANGES.rate, formatRate, `${at}/rate`, faults);
    const ends: string[] = [];
    eachOf(link.ends, `${at}/ends`, (text, p) => {
      const end = splitEnd(text, hosts);
      const key = end === null ? text : `${end.host}/${end.nic}`;
      if (end === null || !speeds.has(key)) {
        if (!complete && end !== null) return;
        const expected = speeds.size === 0 ? 'a NIC of a host, of which there are none' : oneOf(speeds.keys());
        faults.add(p, 'unknown-end', `there is no NIC ${show(text)}`, expected);
      } else if (ends.includes(key))
        faults.add(p, 'same-end', `${show(key)} is both ends of the link`, 'two different NICs');
      else if (inUse.has(key))
        faults.add(p, 'end-in-use', `${show(key)} is already an end of ${inUse.get(key)}`, 'a free NIC');
      else {
        ends.push(key);
        inUse.set(key, `link ${link.name ?? index + 1}`);
      }
    });
    if (link.rate === null) {
      const known = ends.flatMap((end) => speeds.get(end) ?? []);
      link.rate = known.length === 2 ? Math.min(...known) : undefined;
    }
  });
}

/** A place has 12 bits in an event (engine/events.ts). */
const MOST_PLACES = 4096;
/** Everything that records events by itself: bridges with their own ports, vCPUs, NICs with driver, back-end, port, tap and control queue, queues. */
function checkPlaces(draft: Draft, faults: Faults): void {
  let places = 1;
  for (const host of draft.hosts ?? []) {
    for (const bridge of host?.bridges ?? []) places += 2 + (bridge?.ports?.length ?? 0);
    places += 3 * (host?.nics?.length ?? 0);
    for (const guest of host?.guests ?? []) {
      places += guest?.vcpus ?? 1;
      for (const nic of guest?.nics ?? []) places += 5 + 2 * (nic?.queuePairs ?? 1);
    }
  }
  if (places > MOST_PLACES)
    faults.add(
      '/hosts',
      'too-many',
      `${places} bridges, NICs, vCPUs, ports and queues`,
      `at most ${MOST_PLACES} in a topology: fewer guests, NICs or queue pairs`,
    );
}

/**
 * Bytes that a world of this draft reserves, and what of them the document says itself. Exact where the draft is whole; what has a
 * fault counts nothing.
 */
export function worldBytes(draft: Draft): { total: number; guests: number; recorder: number } {
  const needs = memoryNeeds(draft);
  const total = planMemory(needs).layout.memoryBytes;
  const guests = needs.hosts.flatMap((host) => host.guests).reduce((sum, { memory }) => sum + memory, 0);
  return { total, guests, recorder: needs.eventCapacity * EVENT_BYTES + needs.byteCapacity };
}
/** An event is five columns of together 24 bytes (engine/event-ring.ts). */
const EVENT_BYTES = 24;

function memoryNeeds(draft: Draft): MemoryNeeds {
  const known = <T>(items: Items<T>): T[] => items?.filter((item): item is T & {} => item !== undefined) ?? [];
  return {
    eventCapacity: draft.recorder?.events ?? 0,
    byteCapacity: draft.recorder?.bytes ?? 0,
    hosts: known(draft.hosts).map((host) => ({
      cores: host.cores ?? 1,
      ovs: { otherConfig: textsOf(host.ovs?.otherConfig) },
      bridges: known(host.bridges).map(({ datapath = 'linux', pmds = 1, ports }) => ({
        datapath,
        pmds,
        ports: ports ?? [],
      })),
      nics: known(host.nics).map(({ queues = 1, rxRing = 0, txRing = 0 }) => ({ queues, rxRing, txRing })),
      guests: known(host.guests).map(({ memory, vcpus, nics }) => ({
        memory: memory ?? 0,
        vcpus: vcpus ?? 1,
        nics: known(nics).map(({ driver = 'virtio-net', queuePairs = 1, tapQueueLength = 0 }) => ({
          driver,
          queuePairs,
          tapQueueLength,
        })),
      })),
    })),
  };
}
function textsOf(map: Maybe<Record<string, Maybe<string>>>): Record<string, string> {
  const texts = Object.entries(map ?? {}).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(texts);
}

function checkWorldMemory(draft: Draft, limits: Limits, faults: Faults): void {
  const { total, guests, recorder } = worldBytes(draft);
  if (total <= limits.maxMemoryBytes) return;
  const mib = (n: number): string => `${Math.ceil(n / MiB)} MiB`;
  faults.add(
    '/hosts',
    'memory-too-large',
    `the topology needs ${mib(total)}: guests ${mib(guests)}, recorder ${mib(recorder)}, counters and host buffers ${mib(total - guests - recorder)}`,
    `at most ${mib(limits.maxMemoryBytes)}`,
  );
}
