/**
 * Which events somebody wants: one grammar for streams, captures and journeys. The text of each parameter is taken apart
 * once; after that an event costs a few table look-ups. docs/filters.md explains the grammar with examples.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import {
  contextOf,
  EVENT_KINDS,
  type FrameRole,
  kindOf,
  MAX_CONTEXTS,
  MAX_PLACES,
  placeOf,
} from '../../engine/events.ts';
import { commaList, globMatches } from '../glob.ts';

/**
 * The filter grammar, as query parameters; all that are given must match:
 *
 *     events=guest.*,dp.miss     kind names, comma-separated, `*` for any characters; a leading `!` takes kinds out again
 *     places=a/*,br0             place names, same rules
 *     contexts=vhost-*           context names, same rules
 *     role=dropped               born, cloned, delivered, consumed, dropped or none; comma-separated
 *     frame=17                   one frame id; or a range 17-40
 *     time=1ms-2.5ms             virtual time since the world began, both ends included; either may be left out: 1ms-, -2.5ms
 */
export interface EventFilterQuery {
  readonly events?: string;
  readonly places?: string;
  readonly contexts?: string;
  readonly role?: string;
  readonly frame?: string;
  readonly time?: string;
}

/** The names of the parameters, for those that pick them out of a larger request. */
export const FILTER_PARAMETERS = [
  'events',
  'places',
  'contexts',
  'role',
  'frame',
  'time',
] as const satisfies readonly (keyof EventFilterQuery)[];

/** A parameter of the filter cannot be understood or matches nothing that exists. */
export class EventFilterError extends Error {
  readonly parameter: keyof EventFilterQuery;
  readonly value: string;
  readonly valid: readonly string[];
  constructor(parameter: keyof EventFilterQuery, value: string, expected: string, valid: readonly string[]) {
    super(`${parameter}: ${JSON.stringify(value)} ${expected}`);
    this.name = 'EventFilterError';
    this.parameter = parameter;
    this.value = value;
    this.valid = valid;
  }
}

/** In a table: nobody has asked yet. */
const UNKNOWN = 2;

const ROLES: readonly FrameRole[] = ['born', 'cloned', 'delivered', 'consumed', 'dropped', 'replaced', 'none'];

/** Which events a client wants: one byte per kind, place and context, and ranges of frames and of virtual time. */
export class EventFilter {
  /** No parameter was given: every event matches. */
  readonly everything: boolean;
  private readonly kinds = new Uint8Array(256);
  private readonly places = new Uint8Array(MAX_PLACES).fill(UNKNOWN);
  private readonly contexts = new Uint8Array(MAX_CONTEXTS).fill(UNKNOWN);
  private readonly catalog: WorldCatalog;
  private readonly placePatterns: readonly string[];
  private readonly contextPatterns: readonly string[];
  private firstFrame = 0;
  private lastFrame = Number.POSITIVE_INFINITY;
  private firstNs = 0;
  private lastNs = Number.POSITIVE_INFINITY;

  /**
   * Throws EventFilterError. `catalog`: a reader's, whose lists grow; the patterns choose among what comes later, too.
   */
  constructor(catalog: WorldCatalog, query: EventFilterQuery = {}) {
    this.catalog = catalog;
    this.everything = FILTER_PARAMETERS.every((parameter) => query[parameter] === undefined);
    const roles = parseRoles(query.role);
    select('events', query.events, EVENT_KINDS, this.kinds);
    for (const kind of EVENT_KINDS) if (!roles.has(kind.role)) this.kinds[kind.id] = 0;
    this.placePatterns = select('places', query.places, catalog.places, this.places);
    this.contextPatterns = select('contexts', query.contexts, catalog.contexts, this.contexts);
    if (query.frame !== undefined) this.parseFrames(query.frame);
    if (query.time !== undefined) this.parseTimes(query.time);
  }

  /** `frame` is the full id, 0 = the event has none; `time` is virtual, in ns. */
  matches(meta: number, frame: number, time: number): boolean {
    const place = this.places[placeOf(meta)]!;
    const context = this.contexts[contextOf(meta)]!;
    if (place === UNKNOWN || context === UNKNOWN) this.learn(placeOf(meta), contextOf(meta));
    return (
      this.kinds[kindOf(meta)] === 1 &&
      this.places[placeOf(meta)] === 1 &&
      this.contexts[contextOf(meta)] === 1 &&
      frame >= this.firstFrame &&
      frame <= this.lastFrame &&
      time >= this.firstNs &&
      time <= this.lastNs
    );
  }

  /** What the patterns say of a place and a context that were not there when the filter was made; without a name: no. */
  private learn(place: number, context: number): void {
    const { places, contexts } = this.catalog;
    if (this.places[place] === UNKNOWN) this.places[place] = chooses(this.placePatterns, places[place]?.name);
    if (this.contexts[context] === UNKNOWN)
      this.contexts[context] = chooses(this.contextPatterns, contexts[context]?.name);
  }

  private parseFrames(text: string): void {
    const match = /^(\d{1,16})(?:-(\d{1,16}))?$/.exec(text.trim());
    const first = Number(match?.[1] ?? Number.NaN);
    const last = Number(match?.[2] ?? first);
    if (!(Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 1 && last >= first)) {
      throw new EventFilterError('frame', text, 'is neither a frame id nor a range such as 17-40', []);
    }
    this.firstFrame = first;
    this.lastFrame = last;
  }

  private parseTimes(text: string): void {
    const ends = text.trim().split('-');
    const first = ends[0] === '' ? 0 : durationNs(ends[0] ?? '');
    const last = ends[1] === '' ? Number.POSITIVE_INFINITY : durationNs(ends[1] ?? '');
    if (ends.length !== 2 || text.trim() === '-' || !(last >= first)) {
      const expected = 'is not a range of virtual time such as 1ms-2.5ms, 1ms- or -2.5ms (ns, us, ms, s)';
      throw new EventFilterError('time', text, expected, []);
    }
    this.firstNs = first;
    this.lastNs = last;
  }
}

/** Digits that each unit has after the point. */
const UNIT_DIGITS: Readonly<Record<string, number>> = { ns: 0, us: 3, ms: 6, s: 9 };

/**
 * A duration as topology documents write it, "2.5ms", in whole ns; NaN where it is none. The floors keep readers from the
 * lab, whose parseDuration is the same; a test compares the two.
 */
export function durationNs(text: string): number {
  const match = text.length <= 32 ? /^(\d+)(?:\.(\d+))?(ns|us|ms|s)$/.exec(text) : null;
  if (match === null) return Number.NaN;
  const [, whole = '', fraction = '', unit = ''] = match;
  const digits = UNIT_DIGITS[unit] ?? 0;
  // Beyond the unit's digits only zeros are a whole number of ns.
  if (/[^0]/.test(fraction.slice(digits))) return Number.NaN;
  const ns = Number(whole + fraction.slice(0, digits).padEnd(digits, '0'));
  return Number.isSafeInteger(ns) ? ns : Number.NaN;
}

function parseRoles(text: string | undefined): ReadonlySet<FrameRole> {
  if (text === undefined) return new Set(ROLES);
  const wanted = new Set<FrameRole>();
  for (const name of commaList(text)) {
    const role = ROLES.find((r) => r === name);
    if (role === undefined) throw new EventFilterError('role', name, `is not one of ${ROLES.join(', ')}`, ROLES);
    wanted.add(role);
  }
  if (wanted.size === 0)
    throw new EventFilterError('role', text, `is empty; expected some of ${ROLES.join(', ')}`, ROLES);
  return wanted;
}

/**
 * Sets table[id] for all items, by the names that a list of patterns selects; all when there is no list or it only takes out.
 * Returns the patterns.
 */
function select(
  parameter: 'events' | 'places' | 'contexts',
  text: string | undefined,
  items: readonly { readonly id: number; readonly name: string }[],
  table: Uint8Array,
): readonly string[] {
  const patterns = commaList(text ?? '');
  if (text !== undefined && patterns.length === 0) {
    throw new EventFilterError(parameter, text, 'is empty; expected names or patterns such as guest.*', namesOf(items));
  }
  for (const pattern of patterns) {
    const name = nameIn(pattern);
    if (items.some((item) => globMatches(name, item.name))) continue;
    throw new EventFilterError(parameter, name, 'matches nothing here', namesOf(items));
  }
  for (const item of items) table[item.id] = chooses(patterns, item.name);
  return patterns;
}
const nameIn = (pattern: string): string => (pattern.startsWith('!') ? pattern.slice(1) : pattern);
/** 1 where the patterns, of which later ones count more, choose the name. */
function chooses(patterns: readonly string[], name: string | undefined): 0 | 1 {
  if (name === undefined) return 0;
  const last = patterns.findLast((pattern) => globMatches(nameIn(pattern), name));
  if (last === undefined) return patterns.every((p) => p.startsWith('!')) ? 1 : 0;
  return last.startsWith('!') ? 0 : 1;
}
function namesOf(items: readonly { readonly name: string }[]): string[] {
  return items.map((x) => x.name);
}
