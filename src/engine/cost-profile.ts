/**
 * Cost profiles: the cost table as it applies to one kind of host. The table's defaults are the first of them; others are made
 * from it by the clock alone, or by users. A profile says nothing of topologies and back-ends, only what primitives cost.
 */
import { COSTS, type Cost, type CostTable, REFERENCE_GHZ } from './costs.ts';

/** What a world is built with: every cost of the table by its name, in the table's units. */
export interface CostProfile {
  readonly name: string;
  readonly costs: CostTable;
}

/** One primitive in a profile: its row of the table with this profile's value, range and origin. */
export interface ProfileRow extends Cost {
  readonly value: number;
}

/** A profile with the origin of every figure. */
export interface ProfileSheet extends CostProfile {
  /** The processor that it stands for, where there is one. */
  readonly cpu: string;
  readonly description: string;
  /** Clock of the host's cores, GHz. */
  readonly clockGhz: number;
  /** The profile that it was made from; null: the table itself. */
  readonly base: string | null;
  /** In the table's order. */
  readonly rows: readonly ProfileRow[];
}

/** Profiles by name: what documents may ask for. */
export type ProfileBook = ReadonlyMap<string, CostProfile>;

/** What the virtual times of a world were computed from, as results, captures and metrics tell it. */
export interface CostStamp {
  readonly profile: string;
  /** costsHash() of all effective costs. */
  readonly hash: string;
  /** Costs that the document sets itself. */
  readonly overrides: number;
}

export const DEFAULT_PROFILE = 'haswell-2.4';

/** With its costs by name, which the rows say. */
export function sheetOf(about: Omit<ProfileSheet, 'costs'>): ProfileSheet {
  return { ...about, costs: Object.fromEntries(about.rows.map((row) => [row.name, row.value])) };
}

const table: ProfileSheet = sheetOf({
  name: DEFAULT_PROFILE,
  cpu: 'a server core of the Haswell or Broadwell class at 2.4 GHz',
  description: 'The defaults of the cost table.',
  clockGhz: REFERENCE_GHZ,
  base: null,
  rows: COSTS.map((row) => ({ ...row, value: row.default })),
});

/** As the table's consumers round them: whole ns, and ns per byte to what 1/256 ns can tell. */
function rounded({ unit }: Cost, value: number): number {
  return unit === 'ns/B' ? Math.round(value * 1e4) / 1e4 : Math.max(value > 0 ? 1 : 0, Math.round(value));
}

/**
 * The same host at another clock. What takes cycles takes them faster or slower; transfers between cores, sleep states and what
 * is no CPU's stay as they are. Nothing else is known of the other processor, and nothing else is changed.
 *
 * DEVIATION: a processor of the same class differs in its clock alone: caches, memory, sleep states and the cycles of an
 * instruction are those of the base.
 */
export function clockScaled(
  base: ProfileSheet,
  name: string,
  clockGhz: number,
  about: { readonly cpu?: string; readonly description?: string } = {},
): ProfileSheet {
  const factor = base.clockGhz / clockGhz;
  const rows = base.rows.map((row): ProfileRow => {
    if (!row.scales || factor === 1) return row;
    const of = (value: number): number => rounded(row, value * factor);
    const source = `${row.source}; times ${base.clockGhz}/${clockGhz} by clock`;
    const basis = row.basis === 'published' ? 'derived' : row.basis;
    return {
      ...row,
      value: of(row.value),
      default: of(row.value),
      range: [of(row.range[0]), of(row.range[1])],
      basis,
      source,
    };
  });
  const { cpu = `${base.cpu}, at ${clockGhz} GHz`, description = `${base.name} at ${clockGhz} GHz, by clock only.` } =
    about;
  return sheetOf({ name, cpu, description, clockGhz, base: base.name, rows });
}

/** The profiles that come with Ringside: the table, and processors of its sources by their clock. */
export const SHIPPED_PROFILES: ReadonlyMap<string, ProfileSheet> = new Map(
  [
    table,
    clockScaled(table, 'broadwell-2.6', 2.6, {
      cpu: 'Xeon E5-2690 v4, 2.6 GHz',
      description: 'The table by the clock of a processor that its sources measured on.',
    }),
    clockScaled(table, 'broadwell-3.6', 3.6, {
      cpu: 'Xeon E5-1650 v4, 3.6 GHz',
      description: 'The table by the clock of the processor of the XDP paper and of the cpumap measurements.',
    }),
  ].map((profile) => [profile.name, profile]),
);

/** A shipped profile; throws where our own code asks for one that there is not. */
export function shippedProfile(name: string = DEFAULT_PROFILE): ProfileSheet {
  const profile = SHIPPED_PROFILES.get(name);
  if (profile === undefined) throw new Error(`there is no shipped cost profile ${name}`);
  return profile;
}

/** FNV-1a, 64 bits: enough to tell two tables apart. */
const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

/** A hash over all effective costs, 16 hexadecimal digits: equal tables have equal hashes, whatever their profiles are called. */
export function costsHash(costs: CostTable): string {
  const text = COSTS.map((c) => `${c.name}=${costs[c.name] ?? c.default}\n`).join('');
  let hash = FNV_OFFSET;
  for (let i = 0; i < text.length; i++) hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(i))) * FNV_PRIME);
  return hash.toString(16).padStart(16, '0');
}

/** The stamp of a world with this profile and these overrides. */
export function costStamp(profile: CostProfile, overrides: CostTable): CostStamp {
  const hash = costsHash({ ...profile.costs, ...overrides });
  return { profile: profile.name, hash, overrides: Object.keys(overrides).length };
}
