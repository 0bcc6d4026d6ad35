/**
 * The first pass over a topology document: its shape, read off the published schema, with defaults filled in and texts with
 * units parsed. What it hands on is a draft; validate.ts checks what the fields mean together. Read document-schema.ts first.
 */
import { child, type FaultCode, type Faults, oneOf, suggestion } from './document-faults.ts';
import { TopologyDocument } from './document-schema.ts';
import type {
  Backend,
  Datapath,
  Driver,
  GuestApp,
  IommuMode,
  PageSize,
  Transport,
  TxMode,
  VhostUserMode,
  VmmKind,
} from './topology.ts';
import type { OfProtocol, VlanMode } from './topology-ovs.ts';
import * as units from './units.ts';
import { type Parsed, show } from './units.ts';

// ---- shape ------------------------------------------------------------------------------------------------------
/** Other devices of QEMU have that property, and users of them look for it here. */
const NO_IOTHREAD =
  "QEMU's virtio-net has no iothread: its frames are the main loop's; vhost-net and vhost-user have threads of their own";
/** The part of JSON Schema that document-schema.ts uses. */
interface Schema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly maxProperties?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly pattern?: string;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
}
interface TextKind {
  readonly code: FaultCode;
  readonly expected: string;
  readonly parse: (text: string) => Parsed<unknown>;
}
/** A pattern in the schema says which kind of text a field holds. */
const TEXTS: ReadonlyMap<string, TextKind> = new Map<string, TextKind>([
  [units.NAME_PATTERN, { code: 'bad-name', expected: units.NAME_EXPECTED, parse: units.parseName }],
  [units.PROFILE_PATTERN, { code: 'bad-name', expected: units.PROFILE_EXPECTED, parse: units.parseProfile }],
  [units.PORT_NAME_PATTERN, { code: 'bad-name', expected: units.PORT_NAME_EXPECTED, parse: units.parsePortName }],
  [units.SIZE_PATTERN, { code: 'bad-size', expected: units.SIZE_EXPECTED, parse: units.parseSize }],
  [units.RATE_PATTERN, { code: 'bad-rate', expected: units.RATE_EXPECTED, parse: units.parseRate }],
  [units.DURATION_PATTERN, { code: 'bad-duration', expected: units.DURATION_EXPECTED, parse: units.parseDuration }],
  [units.MAC_PATTERN, { code: 'bad-mac', expected: units.MAC_EXPECTED, parse: units.parseMac }],
  [units.ADDRESS_PATTERN, { code: 'bad-address', expected: units.ADDRESS_EXPECTED, parse: units.parseAddress }],
  [units.TIME_PATTERN, { code: 'bad-time', expected: units.TIME_EXPECTED, parse: units.parseTime }],
]);

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}
function fits(schema: Schema, type: string): boolean {
  return schema.type === type || (schema.type === 'integer' && type === 'number');
}
function range(schema: Schema): string {
  const { minimum: low, maximum: high } = schema;
  if (low === undefined) return high === undefined ? '' : ` up to ${high}`;
  return high === undefined ? ` from ${low}` : ` from ${low} to ${high}`;
}
function expectedOf(schema: Schema): string {
  if (schema.enum !== undefined) return oneOf(schema.enum.map(String));
  if (schema.anyOf !== undefined)
    return expectedOf(schema.anyOf.find((s) => s.pattern !== undefined) ?? schema.anyOf[0] ?? {});
  const text = TEXTS.get(schema.pattern ?? '');
  if (text !== undefined) return text.expected;
  if (schema.type === 'integer') return `a whole number${range(schema)}`;
  if (schema.type === 'number') return `a number${range(schema)}`;
  if (schema.type === 'boolean') return 'true or false';
  if (schema.type === 'array') return 'a list';
  return schema.type === 'object' ? 'an object' : 'a text';
}

/**
 * The value as the second pass takes it: defaults filled in, texts with units parsed. `undefined` stands for what had a
 * fault, `null` for what is absent and has no default in the schema.
 */
function readShape(schema: Schema, value: unknown, pointer: string, faults: Faults): unknown {
  const type = typeOf(value);
  const branch = schema.anyOf?.find((s) => fits(s, type));
  if (branch !== undefined) return readShape(branch, value, pointer, faults);
  if (!fits(schema, type)) {
    const what = typeof value === 'object' ? show(value) : `${show(value)} is a ${type}`;
    const detail = value === null ? 'null is no value here' : typeof value === 'object' ? `this is ${what}` : what;
    faults.add(pointer, 'wrong-type', detail, expectedOf(schema));
    return undefined;
  }
  if (type === 'object') return readObject(schema, value as Record<string, unknown>, pointer, faults);
  if (type === 'array') return readArray(schema, value as unknown[], pointer, faults);
  if (type === 'string') return readText(schema, value as string, pointer, faults);
  if (type === 'number') return readNumber(schema, value as number, pointer, faults);
  return value;
}
function readObject(schema: Schema, value: Record<string, unknown>, pointer: string, faults: Faults): unknown {
  const properties = schema.properties ?? {};
  const entries: [string, unknown][] = [];
  for (const [key, property] of Object.entries(properties)) {
    const at = child(pointer, key);
    if (Object.hasOwn(value, key) && value[key] !== undefined)
      entries.push([key, readShape(property, value[key], at, faults)]);
    else if (property.default !== undefined) entries.push([key, readShape(property, property.default, at, faults)]);
    else if (schema.required?.includes(key)) {
      faults.add(at, 'missing-field', `"${key}" is missing`, expectedOf(property));
      entries.push([key, undefined]);
    } else entries.push([key, null]);
  }
  const others = schema.additionalProperties;
  let count = 0;
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(properties, key)) continue;
    if (faults.full) break;
    const at = child(pointer, key);
    if (typeof others !== 'object') {
      const meant = suggestion(key, Object.keys(properties)) ?? oneOf(Object.keys(properties));
      if (key === 'iothread' && 'ioeventfd' in properties) faults.add(at, 'unsupported', NO_IOTHREAD, 'no such field');
      else faults.add(at, 'unknown-field', `${show(key)} is not a field here`, meant);
    } else if (++count > (schema.maxProperties ?? Infinity)) {
      faults.add(pointer, 'too-many', `more than ${schema.maxProperties} entries`);
      break;
    } else entries.push([key, readShape(others, value[key], at, faults)]);
  }
  return Object.fromEntries(entries);
}
function readArray(schema: Schema, value: readonly unknown[], pointer: string, faults: Faults): unknown {
  const least = schema.minItems ?? 0;
  const most = schema.maxItems ?? Infinity;
  const expected = least === most ? `exactly ${least}` : least > 0 ? `at least ${least}` : `at most ${most}`;
  if (value.length < least) faults.add(pointer, 'too-few', `a list of ${value.length}`, expected);
  if (value.length > most)
    faults.add(pointer, 'too-many', `a list of ${value.length}`, least === most ? expected : `at most ${most}`);
  if (value.length < least || value.length > most) return undefined;
  const items: unknown[] = [];
  for (let i = 0; i < value.length && !faults.full; i++)
    items.push(readShape(schema.items ?? {}, value[i], child(pointer, i), faults));
  return items;
}
function readText(schema: Schema, value: string, pointer: string, faults: Faults): unknown {
  if (schema.enum !== undefined) {
    if (schema.enum.includes(value)) return value;
    faults.add(pointer, 'unknown-value', `${show(value)} is not known`, expectedOf(schema));
    return undefined;
  }
  const kind = TEXTS.get(schema.pattern ?? '');
  if (kind !== undefined) {
    const parsed = kind.parse(value);
    if (parsed.ok) return parsed.value;
    faults.add(pointer, kind.code, parsed.detail, parsed.expected);
    return undefined;
  }
  if (value.length <= (schema.maxLength ?? Infinity)) return value;
  faults.add(pointer, 'out-of-range', `a text of ${value.length} characters`, `at most ${schema.maxLength}`);
  return undefined;
}
function readNumber(schema: Schema, value: number, pointer: string, faults: Faults): unknown {
  const inside = value >= (schema.minimum ?? -Infinity) && value <= (schema.maximum ?? Infinity);
  if (schema.type === 'integer' && !Number.isSafeInteger(value))
    faults.add(pointer, 'wrong-type', `${value} is not a whole number`, expectedOf(schema));
  else if (!inside || !Number.isFinite(value))
    faults.add(pointer, 'out-of-range', `${value} is out of range`, expectedOf(schema));
  else return value;
  return undefined;
}

// ---- what the shape pass hands on -------------------------------------------------------------------------------
export type Maybe<T> = T | undefined;
export type Items<T> = Maybe<Maybe<T>[]>;
export interface DraftVlan {
  tag: Maybe<number | null>;
  trunks: Items<number>;
  vlanMode: Maybe<VlanMode | null>;
}
export interface DraftBridgePort extends DraftVlan {
  name: Maybe<string>;
  type: Maybe<'internal' | 'dummy' | 'patch'>;
  peer: Maybe<string | null>;
  ofport: Maybe<number | null>;
}
export interface DraftBond extends DraftVlan {
  name: Maybe<string>;
  interfaces: Items<string>;
  mode: Maybe<'active-backup' | 'balance-slb' | null>;
}
export interface DraftMirror {
  name: Maybe<string>;
  selectAll: Maybe<boolean>;
  selectSrcPort: Items<string>;
  selectDstPort: Items<string>;
  selectVlan: Items<number>;
  outputPort: Maybe<string | null>;
  outputVlan: Maybe<number | null>;
}
export interface DraftOvsBridge {
  failMode: Maybe<'standalone' | 'secure' | null>;
  ports: Items<DraftBridgePort>;
  bonds: Items<DraftBond>;
  mirrors: Items<DraftMirror>;
  flows: Items<string>;
  controllers: Items<string>;
  protocols: Items<OfProtocol>;
  otherConfig: Maybe<Record<string, Maybe<string>>>;
  openflowPort: Maybe<number | null>;
}
export interface DraftBridge extends DraftOvsBridge {
  name: Maybe<string>;
  datapath: Maybe<Datapath>;
  macTableSize: Maybe<number>;
  macAgingTime: Maybe<number>;
  userspaceTso: Maybe<boolean>;
  pmds: Maybe<number>;
}
export interface DraftHostNic extends DraftVlan {
  plugged: Maybe<boolean>;
  name: Maybe<string>;
  speed: Maybe<number>;
  bridge: Maybe<string | null>;
  queues: Maybe<number>;
  rxRing: Maybe<number>;
  txRing: Maybe<number>;
  maxFramesPerSecond: Maybe<number>;
  offloads: Maybe<Record<'txChecksum' | 'rxChecksum' | 'tso' | 'gro' | 'lro', Maybe<boolean | null>>>;
}
export interface DraftGuestNic extends DraftVlan {
  plugged: Maybe<boolean>;
  name: Maybe<string>;
  bridge: Maybe<string | null>;
  backend: Maybe<Backend>;
  driver: Maybe<Driver>;
  mac: Maybe<number[] | null>;
  addresses: Items<units.Address | units.Address6>;
  queueSize: Maybe<number>;
  queuePairs: Maybe<number>;
  packed: Maybe<boolean>;
  transport: Maybe<Transport | null>;
  vectors: Maybe<number | null>;
  mtu: Maybe<number | null>;
  speed: Maybe<number | null>;
  duplex: Maybe<'half' | 'full' | null>;
  ioeventfd: Maybe<boolean>;
  tx: Maybe<TxMode>;
  txTimer: Maybe<number>;
  pollUs: Maybe<number>;
  vhostUser: Maybe<{ mode: Maybe<VhostUserMode>; reconnectMs: Maybe<number>; inflight: Maybe<boolean> } | null>;
  features: Maybe<Record<string, Maybe<boolean | null>>>;
  coalescing: Maybe<Record<'rx' | 'tx', Maybe<Record<'usecs' | 'packets', Maybe<number>>>> | null>;
  tapQueueLength: Maybe<number>;
}
export interface DraftGuest {
  name: Maybe<string>;
  vmm: Maybe<VmmKind>;
  vcpus: Maybe<number | null>;
  memory: Maybe<number | null>;
  app: Maybe<GuestApp>;
  haltPollNs: Maybe<number>;
  postedInterrupts: Maybe<boolean>;
  iommu: Maybe<{ mode: Maybe<IommuMode>; cachingMode: Maybe<boolean | null> } | null>;
  hugepages: Maybe<PageSize | null>;
  dpdk: Maybe<{ hugepages: Maybe<PageSize>; mempool: Maybe<number | null> } | null>;
  nics: Items<DraftGuestNic>;
}
export interface DraftHost {
  name: Maybe<string | null>;
  cores: Maybe<number>;
  hugepages: Maybe<{ '2MiB': Maybe<number>; '1GiB': Maybe<number>; socketMem: Maybe<number> } | null>;
  iommu: Maybe<boolean>;
  vhostPacketWeight: Maybe<number>;
  ovs: Maybe<{
    ovsdbPort: Maybe<number | null>;
    otherConfig: Maybe<Record<string, Maybe<string>>>;
    dummy: Maybe<boolean>;
    outputBatching: Maybe<boolean>;
  }>;
  bridges: Items<DraftBridge>;
  nics: Items<DraftHostNic>;
  guests: Items<DraftGuest>;
}
export interface DraftLink {
  name: Maybe<string | null>;
  ends: Items<string>;
  rate: Maybe<number | null>;
  latency: Maybe<number>;
  loss: Maybe<number>;
}
export interface Draft {
  name: Maybe<string | null>;
  seed: Maybe<number>;
  debug: Maybe<boolean>;
  clock: Maybe<{ mode: Maybe<'work' | 'real'>; factor: Maybe<number> }>;
  epoch: Maybe<bigint>;
  recorder: Maybe<{ events: Maybe<number>; bytes: Maybe<number>; descriptors: Maybe<boolean> }>;
  costProfile: Maybe<string>;
  costs: Maybe<Record<string, Maybe<number>>>;
  hosts: Items<DraftHost>;
  links: Items<DraftLink>;
}

/** The first pass. Undefined: not even an object. */
export function readDraft(document: unknown, faults: Faults): Draft | undefined {
  // The schema's own type says more than this reader can follow.
  return readShape(TopologyDocument as unknown as Schema, document, '', faults) as Draft | undefined;
}

/** Calls `each` for every item that had no fault of shape, with its pointer. */
export function eachOf<T>(items: Items<T>, pointer: string, each: (item: T, at: string, index: number) => void): void {
  items?.forEach((item, i) => {
    if (item !== undefined) each(item, child(pointer, i), i);
  });
}
