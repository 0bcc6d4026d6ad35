/**
 * Cost profiles as users write them: another profile, its clock, and costs of their own with where they are from. What is not
 * plausible is refused unless the document says that it is meant. The base is a shipped profile or one that is there already; who
 * keeps profiles sees to it that a base stays as it is, so that a profile means the same as long as it is there.
 */
import { type Static, Type } from 'typebox';
import {
  clockScaled,
  DEFAULT_PROFILE,
  type ProfileRow,
  type ProfileSheet,
  SHIPPED_PROFILES,
  sheetOf,
} from '../engine/cost-profile.ts';
import { COST_NAMES } from '../engine/costs.ts';
import { oneOf as among, child, suggestion } from './document-faults.ts';
import { type SchemaFault, schemaCheck } from './schema-faults.ts';
import { closed, oneOf } from './schema-kit.ts';
import { PROFILE_EXPECTED, PROFILE_PATTERN, parseProfile } from './units.ts';

/** Profiles from one of a user down to a shipped one. */
const LONGEST_CHAIN = 8;
/** Profiles that may be built on, by name. */
export type BaseBook = ReadonlyMap<string, ProfileSheet>;

/** As in a topology document. */
const MOST = 1_000_000_000;
const OWN = 'set by the profile, without a source';

const OwnCost = closed(
  {
    value: Type.Number({ minimum: 0, maximum: MOST, description: "In the cost's unit.", examples: [1900] }),
    source: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 500,
        description: 'Where the figure is from.',
        examples: ['perf kvm stat on our hosts'],
      }),
    ),
    basis: Type.Optional(
      oneOf(['published', 'derived', 'no source'], {
        description: 'How good the figure is. Default: `derived` with a source, else `no source`.',
        examples: ['published'],
      }),
    ),
  },
  { description: 'A cost with its origin.' },
);

export const CostProfileRequest = closed(
  {
    name: Type.Optional(
      Type.String({
        pattern: PROFILE_PATTERN,
        description: 'Where the profile is put under a name, this must be that name or be left out.',
        examples: ['our-hosts'],
      }),
    ),
    description: Type.Optional(
      Type.String({ maxLength: 1000, default: '', description: 'For people.', examples: ['Our hosts'] }),
    ),
    cpu: Type.Optional(
      Type.String({
        maxLength: 200,
        description: 'The processor that it stands for. Default: as the base.',
        examples: ['EPYC 7763'],
      }),
    ),
    base: Type.Optional(
      Type.String({
        pattern: PROFILE_PATTERN,
        default: DEFAULT_PROFILE,
        description: `The profile that counts where this one says nothing: a shipped one, or one that is there already. At most ${LONGEST_CHAIN - 1} lie between a profile and a shipped one.`,
        examples: [DEFAULT_PROFILE],
      }),
    ),
    clockGhz: Type.Optional(
      Type.Number({
        minimum: 0.1,
        maximum: 20,
        description:
          "Clock of the cores, GHz: times of CPUs are the base's by the ratio of the clocks. Default: as the base.",
        examples: [3],
      }),
    ),
    costs: Type.Optional(
      Type.Unsafe<Record<string, number | Static<typeof OwnCost>>>({
        type: 'object',
        description:
          'Costs of its own by name, in their units: a number, or a value with its source. The clock changes none of these.',
        default: {},
        maxProperties: 1000,
        additionalProperties: {
          anyOf: [OwnCost, { type: 'number', minimum: 0, maximum: MOST }],
          description: 'a number from 0 to 1000000000, or an object with `value`, `source` and `basis`',
        },
      }),
    ),
    outOfRange: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Costs outside of their plausible range are meant.',
        examples: [false],
      }),
    ),
  },
  {
    $id: 'CostProfileRequest',
    description: 'A kind of host: what primitives cost on it, as changes of another profile.',
    examples: [
      { base: DEFAULT_PROFILE, clockGhz: 3, costs: { vm_exit_userspace: { value: 1900, source: 'perf kvm stat' } } },
    ],
  },
);
export type CostProfileDocument = Static<typeof CostProfileRequest>;

export type ParsedProfile =
  | { readonly ok: true; readonly sheet: ProfileSheet; readonly document: CostProfileDocument }
  | { readonly ok: false; readonly faults: readonly SchemaFault[] };

const check = schemaCheck(CostProfileRequest);

/**
 * Never throws; all faults at once. `name`: what it is put under, where it is. `bases`: what it may be built on; there the profile itself
 * may be, as it was before. `taken`: it was accepted once, perhaps by a version with other ranges, and its costs stand.
 */
export function parseCostProfile(
  value: unknown,
  name?: string,
  bases: BaseBook = SHIPPED_PROFILES,
  taken = false,
): ParsedProfile {
  const document = structuredClone(value);
  const faults = check(document);
  if (faults.length > 0) return { ok: false, faults };
  const fields = document as CostProfileDocument;
  const profile = name ?? fields.name ?? '';
  faults.push(...nameFaults(profile, fields));
  const base = bases.get(fields.base ?? DEFAULT_PROFILE);
  const wrong = baseFault(profile, fields.base ?? DEFAULT_PROFILE, bases);
  // What its costs may be is not known without a base.
  if (base === undefined || wrong !== null) faults.push(...(wrong === null ? [] : [wrong]));
  else {
    const scaled = atClock(base, profile, fields);
    faults.push(...costFaults(fields, scaled, taken || fields.outOfRange === true));
    if (faults.length === 0)
      return { ok: true, sheet: sheetFor(fields, scaled), document: { ...fields, name: profile } };
  }
  return { ok: false, faults };
}

/** Why a profile cannot be built on `base`. */
function baseFault(name: string, base: string, bases: BaseBook): SchemaFault | null {
  const pointer = '/base';
  const some = 'another profile';
  if (!bases.has(base)) {
    const expected = suggestion(base, new Set(bases.keys())) ?? among([...bases.keys()].slice(0, 5));
    return { pointer, detail: `there is no cost profile '${base}'`, expected };
  }
  if (base === name) return { pointer, detail: 'a profile is not built on itself', expected: some };
  let length = 1;
  for (let at = bases.get(base); at !== undefined && !SHIPPED_PROFILES.has(at.name); at = bases.get(at.base ?? '')) {
    if (at.base === name) return { pointer, detail: `'${base}' is itself built on '${name}'`, expected: some };
    if (++length > LONGEST_CHAIN) {
      const detail = `'${base}' is built on ${LONGEST_CHAIN} profiles already`;
      return { pointer, detail, expected: 'one that is closer to a shipped profile' };
    }
  }
  return null;
}

function nameFaults(name: string, document: CostProfileDocument): SchemaFault[] {
  if (document.name !== undefined && document.name !== name)
    return [
      {
        pointer: '/name',
        detail: `the profile is named '${document.name}' but put under '${name}'`,
        expected: `'${name}', or no name`,
      },
    ];
  const parsed = parseProfile(name);
  if (!parsed.ok)
    return [{ pointer: '/name', detail: name === '' ? 'is missing' : parsed.detail, expected: PROFILE_EXPECTED }];
  if (SHIPPED_PROFILES.has(name))
    return [{ pointer: '/name', detail: `'${name}' is a profile that comes with Ringside`, expected: 'another name' }];
  return [];
}

function costFaults(document: CostProfileDocument, base: ProfileSheet, anyValue: boolean): SchemaFault[] {
  const faults: SchemaFault[] = [];
  const rows = new Map(base.rows.map((row) => [row.name, row]));
  for (const [name, given] of Object.entries(document.costs ?? {})) {
    const pointer = child('/costs', name);
    const row = rows.get(name);
    if (row === undefined) {
      const expected =
        suggestion(name, COST_NAMES) ?? `one of ${COST_NAMES.size} names, as ${among([...COST_NAMES].slice(0, 3))}`;
      faults.push({ pointer, detail: `'${name.slice(0, 64)}' is not in the cost table`, expected });
      continue;
    }
    const value = typeof given === 'number' ? given : given.value;
    const [low, high] = row.range;
    if (!anyValue && (value < low || value > high))
      faults.push({
        pointer: typeof given === 'number' ? pointer : `${pointer}/value`,
        detail: `${value} ${row.unit} is not plausible`,
        expected: `${low} to ${high} ${row.unit}, or "outOfRange": true`,
      });
  }
  return faults;
}

/** The base at the document's clock, under the profile's name. Where the profile says nothing, what the base has is the default. */
function atClock(
  base: ProfileSheet,
  name: string,
  { clockGhz, cpu, description = '' }: CostProfileDocument,
): ProfileSheet {
  const scaled = clockScaled(base, name, clockGhz ?? base.clockGhz);
  const rows = scaled.rows.map((row) => ({ ...row, default: row.value }));
  return { ...scaled, rows, cpu: cpu ?? (clockGhz === undefined ? base.cpu : scaled.cpu), description };
}

function sheetFor(document: CostProfileDocument, base: ProfileSheet): ProfileSheet {
  const rows = base.rows.map((row): ProfileRow => {
    const given = document.costs?.[row.name];
    if (given === undefined) return row;
    if (typeof given === 'number') return { ...row, value: given, basis: 'no source', source: OWN };
    const { value, source, basis = source === undefined ? 'no source' : 'derived' } = given;
    return { ...row, value, basis, source: source ?? OWN };
  });
  return sheetOf({ ...base, rows });
}
