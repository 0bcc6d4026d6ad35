/**
 * Finds everything that is wrong with a topology document, in one pass over it: first its shape, read off the published
 * schema, then what a schema cannot say (references, duplicates, sums). What has a fault is left out of the second pass,
 * so that one mistake is reported once. Read document-schema.ts first; document.ts is the entrance.
 */
import { RANGES, TopologyDocument } from './document-schema.ts';
import type { Backend, Datapath, Driver, GuestApp } from './topology.ts';
import * as units from './units.ts';
import { formatMac, formatRate, formatSize, type Parsed, show } from './units.ts';

export type FaultCode =
  | 'syntax'
  | 'duplicate-key'
  | 'too-large'
  | 'too-many-faults'
  | 'wrong-type'
  | 'unknown-field'
  | 'missing-field'
  | 'unknown-value'
  | 'out-of-range'
  | 'not-power-of-two'
  | 'not-page-aligned'
  | 'too-many'
  | 'too-few'
  | 'bad-name'
  | 'bad-size'
  | 'bad-rate'
  | 'bad-duration'
  | 'bad-mac'
  | 'bad-address'
  | 'bad-time'
  | 'name-mismatch'
  | 'reserved-name'
  | 'duplicate-name'
  | 'duplicate-mac'
  | 'duplicate-address'
  | 'unknown-bridge'
  | 'wrong-datapath'
  | 'unknown-end'
  | 'same-end'
  | 'end-in-use'
  | 'wrong-backend'
  | 'wrong-driver'
  | 'mixed-drivers'
  | 'memory-too-small'
  | 'memory-too-large'
  | 'not-enough-cores'
  | 'unknown-cost';

export interface Fault {
  /** RFC 6901, of what is wrong or, where that is absent, of the nearest thing around it that is there. */
  readonly pointer: string;
  /** Stable. */
  readonly code: FaultCode;
  /** What is wrong, one sentence without a full stop. */
  readonly detail: string;
  readonly expected?: string;
  /** Where the text itself could not be read; both from 1. */
  readonly line?: number;
  readonly column?: number;
}

/** What one server allows; settings. */
export interface Limits {
  readonly maxHosts: number;
  /** Guests of all hosts together. */
  readonly maxGuests: number;
  readonly maxNicsPerGuest: number;
  readonly maxGuestMemoryBytes: number;
  /** All of a world: guests, recorder and host buffers live in one memory. */
  readonly maxMemoryBytes: number;
}
const MiB = 1 << 20;
export const DEFAULT_LIMITS: Limits = {
  maxHosts: 16,
  maxGuests: 64,
  maxNicsPerGuest: 8,
  maxGuestMemoryBytes: 2048 * MiB,
  maxMemoryBytes: 3584 * MiB,
};

/** More faults than a person reads; a list of that length ends with `too-many-faults`. */
export const MAX_FAULTS = 100;

export class Faults {
  readonly list: Fault[] = [];
  private readonly root: unknown;

  constructor(root: unknown) {
    this.root = root;
  }
  get full(): boolean {
    return this.list.length > MAX_FAULTS;
  }
  add(pointer: string, code: FaultCode, detail: string, expected?: string): void {
    if (this.full) return;
    if (this.list.length === MAX_FAULTS) {
      this.list.push({
        pointer: '',
        code: 'too-many-faults',
        detail: `only the first ${MAX_FAULTS} faults are listed`,
      });
      return;
    }
    const at = this.nearest(pointer);
    this.list.push(expected === undefined ? { pointer: at, code, detail } : { pointer: at, code, detail, expected });
  }
  /** The longest part of the pointer that leads to something in the document. */
  private nearest(pointer: string): string {
    let value = this.root;
    let reached = '';
    for (const token of pointer.split('/').slice(1)) {
      const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return reached;
      value = (value as Record<string, unknown>)[key];
      reached += '/' + token;
    }
    return reached;
  }
}
function child(pointer: string, key: string | number): string {
  return `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

// ---- close matches ----------------------------------------------------------------------------------------------
/** Edits (insert, delete, replace, swap neighbours) from one word to the other. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
/** Up to three of `known` that `word` may have been meant as, nearest first. */
export function closeMatches(word: string, known: Iterable<string>): string[] {
  if (word.length > 64) return [];
  const wanted = word.toLowerCase();
  const most = Math.max(1, Math.floor(word.length / 3));
  const near: { name: string; edits: number }[] = [];
  for (const name of known) {
    if (Math.abs(name.length - word.length) > most && !name.toLowerCase().startsWith(wanted)) continue;
    const edits = name.toLowerCase().startsWith(wanted) ? 0.5 : distance(wanted, name.toLowerCase());
    if (edits <= most) near.push({ name, edits });
  }
  near.sort((a, b) => a.edits - b.edits || (a.name < b.name ? -1 : 1));
  return near.slice(0, 3).map((n) => n.name);
}
function quoted(names: Iterable<string>, most = 12): string {
  const all = [...names];
  const shown = all.slice(0, most).map((n) => JSON.stringify(n));
  return shown.join(', ') + (all.length > most ? ` and ${all.length - most} more` : '');
}
function oneOf(names: Iterable<string>): string {
  const all = [...names];
  return all.length === 1 ? quoted(all) : `one of ${quoted(all)}`;
}
function suggestion(word: string, known: Iterable<string>): string | undefined {
  const near = closeMatches(word, known);
  return near.length === 0 ? undefined : oneOf(near);
}

// ---- shape ------------------------------------------------------------------------------------------------------
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
      faults.add(at, 'unknown-field', `${show(key)} is not a field here`, meant);
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
type Maybe<T> = T | undefined;
type Items<T> = Maybe<Maybe<T>[]>;
export interface DraftBridge {
  name: Maybe<string>;
  datapath: Maybe<Datapath>;
  macTableSize: Maybe<number>;
  macAgingTime: Maybe<number>;
}
export interface DraftHostNic {
  name: Maybe<string>;
  speed: Maybe<number>;
  bridge: Maybe<string | null>;
  rxRing: Maybe<number>;
  txRing: Maybe<number>;
}
export interface DraftGuestNic {
  name: Maybe<string>;
  bridge: Maybe<string | null>;
  backend: Maybe<Backend>;
  driver: Maybe<Driver>;
  mac: Maybe<number[] | null>;
  addresses: Items<units.Address>;
  queueSize: Maybe<number>;
  ioeventfd: Maybe<boolean>;
  features: Maybe<Record<string, Maybe<boolean>>>;
  tapQueueLength: Maybe<number>;
}
export interface DraftGuest {
  name: Maybe<string>;
  vcpus: Maybe<number>;
  memory: Maybe<number>;
  app: Maybe<GuestApp>;
  nics: Items<DraftGuestNic>;
}
export interface DraftHost {
  name: Maybe<string | null>;
  cores: Maybe<number>;
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
  clock: Maybe<{ mode: Maybe<'work' | 'real'>; factor: Maybe<number> }>;
  epoch: Maybe<bigint>;
  recorder: Maybe<{ events: Maybe<number>; bytes: Maybe<number>; descriptors: Maybe<boolean> }>;
  costs: Maybe<Record<string, Maybe<number>>>;
  hosts: Items<DraftHost>;
  links: Items<DraftLink>;
}

/** The first pass. Undefined: not even an object. */
export function readDraft(document: unknown, faults: Faults): Draft | undefined {
  // The schema's own type says more than this reader can follow.
  return readShape(TopologyDocument as unknown as Schema, document, '', faults) as Draft | undefined;
}

// ---- meaning ----------------------------------------------------------------------------------------------------
export interface Rules {
  /** The name that the document is put under, where there is one. */
  readonly name: string | undefined;
  readonly limits: Limits;
  readonly knownCosts: ReadonlySet<string> | undefined;
}

/** Calls `each` for every item that had no fault of shape, with its pointer. */
function eachOf<T>(items: Items<T>, pointer: string, each: (item: T, at: string, index: number) => void): void {
  items?.forEach((item, i) => {
    if (item !== undefined) each(item, child(pointer, i), i);
  });
}
/** True where every item and its name could be read: only then does a name that is not found mean an unknown one. */
function allNamed(items: Items<{ name: Maybe<string | null> }>): boolean {
  return items?.every((item) => item?.name !== undefined) ?? false;
}
/** Reports the second and later users of something that only one may have. */
class Unique {
  private readonly seen = new Map<string, string>();
  private readonly faults: Faults;
  private readonly code: FaultCode;
  constructor(faults: Faults, code: FaultCode) {
    this.faults = faults;
    this.code = code;
  }
  claim(key: Maybe<string>, pointer: string, owner: string): void {
    if (key === undefined) return;
    const first = this.seen.get(key);
    if (first === undefined) this.seen.set(key, owner);
    else this.faults.add(pointer, this.code, `${show(key)} is already ${first}`);
  }
}
function checkRange(
  value: Maybe<number>,
  limits: { min: number; max: number },
  format: (n: number) => string,
  pointer: string,
  faults: Faults,
): void {
  if (value === undefined || (value >= limits.min && value <= limits.max)) return;
  faults.add(
    pointer,
    'out-of-range',
    `${format(value)} is out of range`,
    `${format(limits.min)} to ${format(limits.max)}`,
  );
}
function checkPower(
  value: Maybe<number>,
  pointer: string,
  faults: Faults,
  format: (n: number) => string = String,
): void {
  if (value === undefined || value < 1 || Number.isInteger(Math.log2(value))) return;
  const below = 2 ** Math.floor(Math.log2(value));
  const expected = `a power of two, such as ${format(below)} or ${format(below * 2)}`;
  faults.add(pointer, 'not-power-of-two', `${format(value)} is not a power of two`, expected);
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
  });
  eachOf(host.guests, `${at}/guests`, (guest, p) => checkGuest(host, guest, p, limits, faults));
  checkCores(host, at, faults);
}

/** Taps are ports of the kernel datapath, vhost-user sockets of the userspace one. */
const DATAPATH_OF: Readonly<Record<Backend, Datapath>> = {
  'virtio-net': 'system',
  'vhost-net': 'system',
  'vhost-user': 'netdev',
};
function checkBridge(host: DraftHost, name: Maybe<string>, backend: Maybe<Backend>, at: string, faults: Faults): void {
  if (name === undefined) return;
  const bridge = host.bridges?.find((b) => b?.name === name);
  const datapath = backend === undefined ? undefined : DATAPATH_OF[backend];
  if (bridge === undefined) {
    if (!allNamed(host.bridges)) return;
    const known = (host.bridges ?? []).flatMap((b) => b?.name ?? []);
    const expected = known.length === 0 ? 'a bridge of this host, which has none' : oneOf(known);
    faults.add(`${at}/bridge`, 'unknown-bridge', `there is no bridge ${show(name)} on this host`, expected);
  } else if (datapath !== undefined && bridge.datapath !== undefined && bridge.datapath !== datapath) {
    const detail = `${backend} needs a bridge with the ${datapath} datapath, and ${show(name)} has the ${bridge.datapath} one`;
    faults.add(`${at}/bridge`, 'wrong-datapath', detail, `a bridge with "datapath": "${datapath}"`);
  }
}
function defaultBridge(host: DraftHost, backend: Maybe<Backend>, at: string, faults: Faults): Maybe<string> {
  if (!allNamed(host.bridges) || host.bridges?.some((b) => b?.datapath === undefined)) return undefined;
  const datapath = backend === undefined ? undefined : DATAPATH_OF[backend];
  const bridge = host.bridges?.find((b) => datapath === undefined || b?.datapath === datapath);
  if (bridge !== undefined) return bridge.name;
  const what = datapath === undefined ? 'bridge' : `bridge with the ${datapath} datapath, which ${backend} needs`;
  faults.add(`${at}/bridge`, datapath === undefined ? 'unknown-bridge' : 'wrong-datapath', `this host has no ${what}`);
  return undefined;
}

function checkCores(host: DraftHost, at: string, faults: Faults): void {
  if (host.cores === undefined) return;
  const pollers: string[] = [];
  if (host.bridges?.some((b) => b?.datapath === 'netdev')) pollers.push('the netdev datapath');
  for (const guest of host.guests ?? [])
    if (guest?.nics?.some((nic) => nic?.driver === 'virtio-pmd')) pollers.push(`guest ${guest.name ?? '?'}`);
  if (pollers.length <= host.cores - 1) return;
  const who = pollers.slice(0, 6).join(', ') + (pollers.length > 6 ? ' and others' : '');
  faults.add(
    `${at}/cores`,
    'not-enough-cores',
    `${pollers.length} polling threads (${who}) need a core each, and the rest of the host one more; it has ${host.cores}`,
    `at least ${pollers.length + 1}`,
  );
}

// ---- one guest --------------------------------------------------------------------------------------------------
/** Places of a guest that are not NICs have these names. */
const RESERVED_NIC = /^vcpu[0-9]+$/;
const PAGE = 4096;
/** What the guest's kernel takes beside rings and buffers. */
const KERNEL_BYTES = MiB;
/** Each slot of both rings can have a buffer of its own: half a page, as DPDK's mbufs have and a 1514-byte frame needs. */
const BUFFER_BYTES = 2048;

/** Bytes of a queue pair in guest memory: two split rings (virtio 1.2 §2.7), each on pages of its own, and buffers. */
export function queuePairBytes(queueSize: number): number {
  const ring = 16 * queueSize + (6 + 2 * queueSize) + (6 + 8 * queueSize);
  return 2 * (Math.ceil(ring / PAGE) * PAGE + queueSize * BUFFER_BYTES);
}

function checkGuest(host: DraftHost, guest: DraftGuest, at: string, limits: Limits, faults: Faults): void {
  const names = new Unique(faults, 'duplicate-name');
  const count = guest.nics?.length ?? 0;
  if (count > limits.maxNicsPerGuest)
    faults.add(`${at}/nics`, 'too-many', `${count} NICs`, `at most ${limits.maxNicsPerGuest} in a guest`);
  eachOf(guest.nics, `${at}/nics`, (nic, p) => {
    names.claim(nic.name, `${p}/name`, 'the name of a NIC of this guest');
    if (nic.name !== undefined && RESERVED_NIC.test(nic.name))
      faults.add(
        `${p}/name`,
        'reserved-name',
        `"${nic.name}" is what a vCPU is called`,
        'another name, such as "net0"',
      );
    checkPower(nic.queueSize, `${p}/queueSize`, faults);
    if (nic.bridge === null) nic.bridge = defaultBridge(host, nic.backend, p, faults);
    else checkBridge(host, nic.bridge, nic.backend, p, faults);
    if (nic.ioeventfd === false && nic.backend !== undefined && nic.backend !== 'virtio-net')
      faults.add(
        `${p}/ioeventfd`,
        'wrong-backend',
        `${nic.backend} gets its kicks through an ioeventfd and has no other way`,
        'true, or "backend": "virtio-net"',
      );
  });
  checkDrivers(guest, at, faults);
  checkGuestMemory(guest, at, limits, faults);
}

function checkDrivers(guest: DraftGuest, at: string, faults: Faults): void {
  const drivers = new Set((guest.nics ?? []).flatMap((nic) => nic?.driver ?? []));
  if (guest.app === 'macswap' || guest.app === 'io') {
    if (guest.nics?.length === 0)
      faults.add(
        `${at}/app`,
        'wrong-driver',
        `${guest.app} forwards frames, and this guest has no NIC`,
        'at least one NIC',
      );
    eachOf(guest.nics, `${at}/nics`, (nic, p) => {
      if (nic.driver === 'virtio-net')
        faults.add(
          `${p}/driver`,
          'wrong-driver',
          `${guest.app} is a DPDK program and cannot use the kernel's driver`,
          '"virtio-pmd"',
        );
    });
  } else if (drivers.size > 1) {
    // DEVIATION: on real hosts a guest can poll one NIC on one vCPU and leave another to the kernel.
    faults.add(
      `${at}/nics`,
      'mixed-drivers',
      'the polling driver takes the vCPU whole, and leaves none to the kernel driver beside it',
      'one driver for all NICs of a guest',
    );
  }
}

function checkGuestMemory(guest: DraftGuest, at: string, limits: Limits, faults: Faults): void {
  if (guest.memory === undefined) return;
  const pointer = `${at}/memory`;
  if (guest.memory % PAGE !== 0)
    faults.add(pointer, 'not-page-aligned', `${formatSize(guest.memory)} is not a multiple of 4 KiB`);
  const most = Math.min(limits.maxGuestMemoryBytes, RANGES.memory.max);
  if (guest.memory > most)
    faults.add(
      pointer,
      'memory-too-large',
      `${formatSize(guest.memory)} of memory`,
      `at most ${formatSize(most)} per guest`,
    );
  let needed = KERNEL_BYTES;
  eachOf(guest.nics, '', (nic) => {
    needed += queuePairBytes(nic.queueSize ?? 0);
  });
  if (guest.memory < needed)
    faults.add(
      pointer,
      'memory-too-small',
      `${formatSize(guest.memory)} cannot hold the rings and buffers of this guest's NICs and 1 MiB for its kernel`,
      `at least ${Math.ceil(needed / 1024)}KiB`,
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
          ips.claim(units.formatIpv4(address.ip), p, `an address of ${owner}`),
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

/** An event is five columns of together 24 bytes (engine/event-ring.ts). */
const EVENT_BYTES = 24;
/** Counters, control blocks and what else every world has. */
const WORLD_BYTES = 16 * MiB;
const NETDEV_POOL_BYTES = 32 * MiB;

/** Bytes that a world of this draft takes at most; host buffers are estimated by the queues that can hold frames. */
export function worldBytes(draft: Draft): { guests: number; recorder: number; host: number } {
  let guests = 0;
  let host = WORLD_BYTES;
  for (const h of draft.hosts ?? []) {
    if (h?.bridges?.some((b) => b?.datapath === 'netdev')) host += NETDEV_POOL_BYTES;
    for (const nic of h?.nics ?? []) host += ((nic?.rxRing ?? 0) + (nic?.txRing ?? 0)) * BUFFER_BYTES;
    for (const guest of h?.guests ?? []) {
      guests += guest?.memory ?? 0;
      for (const nic of guest?.nics ?? [])
        if (nic?.backend !== 'vhost-user') host += (nic?.tapQueueLength ?? 0) * BUFFER_BYTES;
    }
  }
  const recorder = (draft.recorder?.events ?? 0) * EVENT_BYTES + (draft.recorder?.bytes ?? 0);
  return { guests, recorder, host };
}
function checkWorldMemory(draft: Draft, limits: Limits, faults: Faults): void {
  const { guests, recorder, host } = worldBytes(draft);
  const total = guests + recorder + host;
  if (total <= limits.maxMemoryBytes) return;
  const mib = (n: number): string => `${Math.ceil(n / MiB)} MiB`;
  faults.add(
    '/hosts',
    'memory-too-large',
    `the topology needs ${mib(total)}: guests ${mib(guests)}, recorder ${mib(recorder)}, host buffers ${mib(host)}`,
    `at most ${mib(limits.maxMemoryBytes)}`,
  );
}
