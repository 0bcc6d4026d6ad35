/** What is checked of the fields of Open vSwitch, and how they become a topology's and a document's. Read validate.ts first. */
import type {
  DraftBridge,
  DraftGuestNic,
  DraftHost,
  DraftHostNic,
  DraftOvsBridge,
  DraftVlan,
} from './document-draft.ts';
import { eachOf, type Items, type Maybe } from './document-draft.ts';
import { child, type Faults } from './document-faults.ts';
import type { TopologyDocument } from './document-schema.ts';
import type { Bond, BridgePort, Mirror, OvsBridge, OvsHostOptions, PortVlan } from './topology-ovs.ts';
import { show } from './units.ts';

type HostDocument = TopologyDocument['hosts'][number];
type BridgeDocument = NonNullable<NonNullable<HostDocument['bridges']>[number]>;

/** `tcp:` and `unix:` connect out, `ptcp:` and `punix:` listen; ports are optional (ovs-vsctl(8), OpenFlow Connection Methods). */
const TARGET = /^(tcp:(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+)(:[0-9]{1,5})?|ptcp:[0-9]{0,5}(:\S+)?|p?unix:\S+)$/;
const LIST_FIELDS = ['ports', 'bonds', 'mirrors', 'flows', 'controllers', 'protocols'] as const;
/** Keys that have fields of their own. */
const FIELD_OF_KEY: Readonly<Record<string, string>> = {
  'mac-table-size': 'macTableSize',
  'mac-aging-time': 'macAgingTime',
};

/** Bridges, ports and NICs of a host, as far as Open vSwitch and its VLANs go. */
export function checkOvs(host: DraftHost, at: string, faults: Faults): void {
  const names = new Map<string, string>();
  const claim = (name: Maybe<string>, pointer: string, owner: string): void => {
    if (name === undefined) return;
    const first = names.get(name);
    if (first === undefined) names.set(name, owner);
    else faults.add(pointer, 'duplicate-name', `${show(name)} is already ${first}`);
  };
  for (const bridge of host.bridges ?? [])
    if (bridge?.name !== undefined) names.set(bridge.name, 'a bridge of this host');
  for (const port of nicPorts(host)) names.set(port, 'the port of a NIC of this host');
  eachOf(host.bridges, `${at}/bridges`, (bridge, p) => {
    if (bridge.datapath === 'linux') return refuseOnLinux(bridge, p, faults);
    const numbers = new Set<number>();
    eachOf(bridge.ports, `${p}/ports`, (port, q) => {
      claim(port.name, `${q}/name`, 'the name of a port of this host');
      if (port.type === 'patch' && port.peer === null)
        faults.add(`${q}/peer`, 'missing-field', 'a patch port needs a peer', 'the name of another patch port');
      if (port.type !== undefined && port.type !== 'patch' && port.peer !== null && port.peer !== undefined)
        faults.add(`${q}/peer`, 'wrong-backend', `a port of type ${port.type} has no peer`, 'none, or "type": "patch"');
      if (typeof port.ofport !== 'number') return;
      if (numbers.has(port.ofport))
        faults.add(`${q}/ofport`, 'duplicate-name', `${port.ofport} is already the number of a port of this bridge`);
      numbers.add(port.ofport);
    });
    eachOf(bridge.bonds, `${p}/bonds`, (bond, q) => claim(bond.name, `${q}/name`, 'the name of a port of this host'));
    eachOf(bridge.controllers, `${p}/controllers`, (target, q) => {
      if (!TARGET.test(target))
        faults.add(
          q,
          'unknown-value',
          `${show(target)} is no target`,
          'such as "tcp:127.0.0.1:6653" or "unix:/run/c.sock"',
        );
    });
    for (const [key, field] of Object.entries(FIELD_OF_KEY))
      if (bridge.otherConfig !== undefined && Object.hasOwn(bridge.otherConfig, key))
        faults.add(child(`${p}/otherConfig`, key), 'unknown-field', `${key} has a field of its own`, `"${field}"`);
  });
  checkBonds(host, at, faults);
  eachOf(host.nics, `${at}/nics`, (nic, p) => checkNic(host, nic, p, faults));
  eachOf(host.guests, `${at}/guests`, (guest, g) =>
    eachOf(guest.nics, `${g}/nics`, (nic, p) => checkNic(host, nic, p, faults)),
  );
}

/** Names that NICs have as ports. */
function nicPorts(host: DraftHost): string[] {
  const guests = (host.guests ?? []).flatMap((g) =>
    (g?.nics ?? []).flatMap((n) => (g?.name && n?.name ? [`${g.name}.${n.name}`] : [])),
  );
  return [...(host.nics ?? []).flatMap((n) => n?.name ?? []), ...guests];
}

function refuseOnLinux(bridge: DraftBridge, at: string, faults: Faults): void {
  const named = [
    ...LIST_FIELDS.filter((field) => (bridge[field]?.length ?? 0) > 0),
    ...(bridge.failMode !== null && bridge.failMode !== undefined ? ['failMode'] : []),
    ...(bridge.openflowPort !== null && bridge.openflowPort !== undefined ? ['openflowPort'] : []),
    ...(Object.keys(bridge.otherConfig ?? {}).length > 0 ? ['otherConfig'] : []),
  ];
  for (const field of named)
    faults.add(
      `${at}/${field}`,
      'wrong-datapath',
      `${field} is a matter of Open vSwitch, and this bridge is the Linux kernel's`,
      'none, or "datapath": "system"',
    );
}

function checkNic(host: DraftHost, nic: DraftHostNic | DraftGuestNic, at: string, faults: Faults): void {
  const bridge = host.bridges?.find((b) => b?.name === nic.bridge);
  if (bridge?.datapath !== 'linux') return;
  const named = [
    ...(typeof nic.tag === 'number' ? ['tag'] : []),
    ...((nic.trunks?.length ?? 0) > 0 ? ['trunks'] : []),
    ...(typeof nic.vlanMode === 'string' ? ['vlanMode'] : []),
    ...(nic.plugged === false ? ['plugged'] : []),
  ];
  for (const field of named)
    faults.add(
      `${at}/${field}`,
      'wrong-datapath',
      `${field} is a matter of Open vSwitch, and ${show(nic.bridge)} is a bridge of the Linux kernel`,
      'none, or a bridge of Open vSwitch',
    );
}

function checkBonds(host: DraftHost, at: string, faults: Faults): void {
  const bridgeOf = new Map<string, Maybe<string | null>>();
  for (const nic of host.nics ?? [])
    if (nic?.name !== undefined && nic.plugged !== false) bridgeOf.set(nic.name, nic.bridge);
  for (const guest of host.guests ?? [])
    for (const nic of guest?.nics ?? [])
      if (guest?.name !== undefined && nic?.name !== undefined && nic.plugged !== false)
        bridgeOf.set(`${guest.name}.${nic.name}`, nic.bridge);
  for (const bridge of host.bridges ?? [])
    for (const port of bridge?.ports ?? [])
      if (port?.name !== undefined && port.type !== 'patch') bridgeOf.set(port.name, bridge?.name);
  const used = new Set<string>();
  eachOf(host.bridges, `${at}/bridges`, (bridge, p) =>
    eachOf(bridge.bonds, `${p}/bonds`, (bond, q) =>
      eachOf(bond.interfaces, `${q}/interfaces`, (name, r) => {
        if (bridge.name !== undefined && bridgeOf.get(name) !== bridge.name)
          faults.add(
            r,
            'unknown-end',
            `${show(name)} is no interface of this bridge`,
            'a plugged NIC of this bridge, or one of its ports',
          );
        else if (used.has(name)) faults.add(r, 'end-in-use', `${show(name)} is in a bond already`, 'another interface');
        used.add(name);
      }),
    ),
  );
}

// ---- draft to topology ------------------------------------------------------------------------------------------
function sure<T>(value: T): NonNullable<T> {
  if (value === undefined || value === null) throw new Error('a document without faults has a field without a value');
  return value;
}
const whole = <T>(items: Items<T>): T[] => sure(items).map((item) => sure(item) as T);
const mapOf = (map: Maybe<Record<string, Maybe<string>>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(sure(map))
      .map(([key, value]): [string, string] => [key, sure(value)])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );

export function vlanOf(draft: DraftVlan): PortVlan {
  return { tag: draft.tag ?? null, trunks: sorted(whole(draft.trunks)), vlanMode: draft.vlanMode ?? null };
}
const sorted = (numbers: readonly number[]): number[] => [...new Set(numbers)].sort((a, b) => a - b);

export function ovsBridgeOf(draft: DraftOvsBridge): OvsBridge {
  return {
    failMode: draft.failMode ?? null,
    ports: whole(draft.ports).map(
      (port): BridgePort => ({
        name: sure(port.name),
        type: sure(port.type),
        peer: port.peer ?? null,
        ofport: port.ofport ?? null,
        ...vlanOf(port),
      }),
    ),
    bonds: whole(draft.bonds).map(
      (bond): Bond => ({
        name: sure(bond.name),
        interfaces: whole(bond.interfaces),
        mode: bond.mode ?? null,
        ...vlanOf(bond),
      }),
    ),
    mirrors: whole(draft.mirrors).map(
      (mirror): Mirror => ({
        name: sure(mirror.name),
        selectAll: sure(mirror.selectAll),
        selectSrcPort: whole(mirror.selectSrcPort),
        selectDstPort: whole(mirror.selectDstPort),
        selectVlan: sorted(whole(mirror.selectVlan)),
        outputPort: mirror.outputPort ?? null,
        outputVlan: mirror.outputVlan ?? null,
      }),
    ),
    flows: whole(draft.flows),
    controllers: whole(draft.controllers),
    protocols: [...new Set(whole(draft.protocols))].sort(),
    otherConfig: mapOf(draft.otherConfig),
    openflowPort: draft.openflowPort ?? null,
  };
}
export function ovsHostOf({ ovs }: DraftHost): OvsHostOptions {
  const { ovsdbPort, otherConfig, dummy, outputBatching } = sure(ovs);
  return {
    ovsdbPort: ovsdbPort ?? null,
    otherConfig: mapOf(otherConfig),
    dummy: sure(dummy),
    outputBatching: sure(outputBatching),
  };
}

// ---- topology to document ---------------------------------------------------------------------------------------
// What says nothing is left out: most documents have none of it.
/** VLAN fields of a document. */
export function vlanDocument({ tag, trunks, vlanMode }: PortVlan): {
  tag?: number;
  trunks?: number[];
  vlanMode?: NonNullable<PortVlan['vlanMode']>;
} {
  return {
    ...(tag === null ? {} : { tag }),
    ...(trunks.length === 0 ? {} : { trunks: [...trunks] }),
    ...(vlanMode === null ? {} : { vlanMode }),
  };
}
/** The same of a NIC. */
export function plugDocument(
  nic: PortVlan & { readonly plugged: boolean },
): ReturnType<typeof vlanDocument> & { plugged?: boolean } {
  return { ...(nic.plugged ? {} : { plugged: false }), ...vlanDocument(nic) };
}
export function ovsBridgeDocument(bridge: OvsBridge): Partial<BridgeDocument> {
  const some = <T>(items: readonly T[], key: keyof OvsBridge): object => (items.length === 0 ? {} : { [key]: items });
  return {
    ...(bridge.failMode === null ? {} : { failMode: bridge.failMode }),
    ...some(
      bridge.ports.map(({ name, type, peer, ofport, ...vlan }) => ({
        name,
        type,
        ...(peer === null ? {} : { peer }),
        ...(ofport === null ? {} : { ofport }),
        ...vlanDocument(vlan),
      })),
      'ports',
    ),
    ...some(
      bridge.bonds.map(({ name, interfaces, mode, ...vlan }) => ({
        name,
        interfaces: [...interfaces],
        ...(mode === null ? {} : { mode }),
        ...vlanDocument(vlan),
      })),
      'bonds',
    ),
    ...some(bridge.mirrors.map(mirrorDocument), 'mirrors'),
    ...some([...bridge.flows], 'flows'),
    ...some([...bridge.controllers], 'controllers'),
    ...some([...bridge.protocols], 'protocols'),
    ...(Object.keys(bridge.otherConfig).length === 0 ? {} : { otherConfig: { ...bridge.otherConfig } }),
    ...(bridge.openflowPort === null ? {} : { openflowPort: bridge.openflowPort }),
  };
}
function mirrorDocument(mirror: Mirror): object {
  const { name, selectAll, selectSrcPort, selectDstPort, selectVlan, outputPort, outputVlan } = mirror;
  return {
    name,
    ...(selectAll ? { selectAll } : {}),
    ...(selectSrcPort.length === 0 ? {} : { selectSrcPort: [...selectSrcPort] }),
    ...(selectDstPort.length === 0 ? {} : { selectDstPort: [...selectDstPort] }),
    ...(selectVlan.length === 0 ? {} : { selectVlan: [...selectVlan] }),
    ...(outputPort === null ? {} : { outputPort }),
    ...(outputVlan === null ? {} : { outputVlan }),
  };
}
export function ovsHostDocument(options: OvsHostOptions): Pick<HostDocument, 'ovs'> {
  const { ovsdbPort, otherConfig, dummy, outputBatching } = options;
  const ovs = {
    ...(ovsdbPort === null ? {} : { ovsdbPort }),
    ...(Object.keys(otherConfig).length === 0 ? {} : { otherConfig: { ...otherConfig } }),
    ...(dummy ? { dummy } : {}),
    ...(outputBatching ? {} : { outputBatching }),
  };
  return Object.keys(ovs).length === 0 ? {} : { ovs };
}
