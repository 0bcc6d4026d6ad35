/**
 * The runs of an experiment: counted before anything is made, checked before anything starts, and each made when it is wanted.
 * A plan holds the template and the axes, never the documents of its combinations: a hundred thousand of them would not fit.
 * Runs are numbered from 1, combination by combination, repetition by repetition.
 */
import type { ProfileBook } from '../../engine/cost-profile.ts';
import { COST_NAMES, costTable } from '../../engine/costs.ts';
import { type ParsedTopology, parseTopology } from '../document.ts';
import { type JobProfile, type JobSpec, type JobTraffic, withJobRings } from '../job/job.ts';
import type { MeasureBody } from '../job/measure.ts';
import { type SchemaFault, schemaCheck } from '../schema-faults.ts';
import { parseDuration, parseSize } from '../units.ts';
import {
  type Axis,
  applyAxes,
  combinationsOf,
  combinationText,
  indicesOf,
  readAxes,
  type TemplateParts,
  valueText,
} from './axes.ts';
import { JobKeys, KeptByCharacters } from './job-keys.ts';
import { measureFaults } from './measure-check.ts';
import { ExperimentTemplate, type ExperimentTemplateBody } from './template.ts';
import { trafficFaults } from './traffic-check.ts';

export interface PlanOptions {
  /** engineVersion() of who will compute it. */
  readonly engine: string;
  /** Most runs of an experiment. */
  readonly maxRuns: number;
  /** Cost profiles that documents may name. */
  readonly profiles?: ProfileBook;
  /** Most guests of a topology. */
  readonly maxGuests?: number;
}

export interface RunLimits {
  /** Bytes. */
  readonly memory: number;
  readonly wallSeconds: number;
}

export interface Precision {
  readonly metric: string;
  readonly relative: number;
  readonly confidence: number;
  readonly minimum: number;
}

/** One combination: its job with the first seed, or why it cannot be built. */
export type Combination =
  | { readonly ok: true; readonly job: JobSpec }
  | { readonly ok: false; readonly faults: readonly SchemaFault[] };

export interface PlannedRun {
  readonly number: number;
  readonly combination: number;
  /** From 0. */
  readonly repetition: number;
  readonly seed: number;
  /** contentHash(job). */
  readonly key: string;
  readonly job: JobSpec;
}

export type PlanResult =
  | { readonly ok: true; readonly plan: Plan }
  /** `tooMany`: the count and the limit, as one sentence. */
  | { readonly ok: false; readonly faults: readonly SchemaFault[]; readonly tooMany?: string };

const checkTemplate = schemaCheck(ExperimentTemplate);
/** Faults of all combinations together that are told. */
const MOST_FAULTS = 100;
/** Characters of a value that are shown with each of its runs. */
const MOST_SHOWN = 200;
/** Combinations whose jobs are kept for their next repetition. */
const KEPT = 256;
/** Documents that have been read. */
const KEPT_DOCUMENTS = 16;
/** Of all of either, as JSON: a document may be a megabyte, and takes ten times that as objects. */
const KEPT_CHARACTERS = 8 << 20;
const MOST_SEED = 0xffffffff;
/** Of a template: more would overflow the stack of whoever copies or compares it. A topology has about ten. */
const MOST_DEPTH = 64;

/** Reads and counts; combinations are checked by `Plan.check`. `body` gets its defaults. */
export function planExperiment(body: unknown, options: PlanOptions): PlanResult {
  if (isDeep(body, MOST_DEPTH))
    return { ok: false, faults: [{ pointer: '', detail: `is nested deeper than ${MOST_DEPTH} levels` }] };
  const faults = checkTemplate(body);
  if (faults.length > 0) return { ok: false, faults };
  const template = body as ExperimentTemplateBody;
  const { axes, faults: axisFaults } = readAxes(template.axes ?? []);
  const { repetitions = 1, seed = 1 } = template;
  const combinations = combinationsOf(axes);
  const runs = combinations * repetitions;
  if (runs > options.maxRuns) {
    const tooMany = `${runs} runs (${combinations} combinations, ${repetitions} repetitions each) are more than the ${options.maxRuns} that an experiment may have`;
    return { ok: false, faults: [{ pointer: '/axes', detail: tooMany }], tooMany };
  }
  const limits = readLimits(template);
  const all = [...axisFaults, ...limits.faults, ...precisionFaults(template)];
  if (seed + repetitions - 1 > MOST_SEED)
    all.push({ pointer: '/seed', detail: `the last seed would be above ${MOST_SEED}`, expected: 'a smaller one' });
  if ((template.template.traffic ?? []).length === 0 && template.template.measure === undefined)
    all.push({ pointer: '/template/traffic', detail: 'nothing is sent', expected: 'traffic or a measurement' });
  if (all.length > 0) return { ok: false, faults: all };
  // Profiles of users may change while it runs; what it was checked with stays.
  const profiles = options.profiles === undefined ? {} : { profiles: new Map(options.profiles) };
  return { ok: true, plan: new Plan(template, axes, limits.limits, { ...options, ...profiles }) };
}

/** Level by level, without a stack. */
function isDeep(value: unknown, most: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; depth <= most; depth++) {
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []));
    if (level.length === 0) return false;
  }
  return true;
}

function readLimits({ limits = {} }: ExperimentTemplateBody): { limits: RunLimits; faults: SchemaFault[] } {
  const memory = parseSize(limits.memory ?? '512MiB');
  const time = parseDuration(limits.time ?? '60s');
  const faults: SchemaFault[] = [];
  if (!memory.ok) faults.push({ pointer: '/limits/memory', detail: memory.detail, expected: memory.expected });
  if (!time.ok) faults.push({ pointer: '/limits/time', detail: time.detail, expected: time.expected });
  else if (time.value < 1e6) faults.push({ pointer: '/limits/time', detail: 'is too short', expected: 'at least 1ms' });
  if (!memory.ok || !time.ok) return { limits: { memory: 0, wallSeconds: 0 }, faults };
  return { limits: { memory: memory.value, wallSeconds: time.value / 1e9 }, faults };
}
function precisionFaults({ precision, repetitions = 1 }: ExperimentTemplateBody): SchemaFault[] {
  const minimum = precision?.minimum ?? 3;
  if (precision === undefined || minimum <= repetitions) return [];
  return [{ pointer: '/precision/minimum', detail: `there are ${repetitions} repetitions`, expected: 'at most that' }];
}

export class Plan {
  readonly template: ExperimentTemplateBody;
  readonly axes: readonly Axis[];
  readonly limits: RunLimits;
  readonly maxEvents: number;
  readonly combinations: number;
  readonly repetitions: number;
  readonly seed: number;
  readonly precision: Precision | null;
  /** Combinations that are left out, once they have been checked. */
  readonly skipped = new Set<number>();
  /** Cost profiles of the combinations that were looked at. */
  readonly profiles = new Map<string, JobProfile>();
  private readonly options: PlanOptions;
  private readonly kept = new KeptByCharacters<number, Kept>(KEPT, KEPT_CHARACTERS);
  private readonly parsed = new KeptByCharacters<string, ParsedTopology>(KEPT_DOCUMENTS, KEPT_CHARACTERS);
  private shown: unknown[][] | null = null;

  constructor(template: ExperimentTemplateBody, axes: readonly Axis[], limits: RunLimits, options: PlanOptions) {
    this.template = template;
    this.axes = axes;
    this.limits = limits;
    this.options = options;
    this.maxEvents = template.limits?.events ?? 100_000_000;
    this.combinations = combinationsOf(axes);
    this.repetitions = template.repetitions ?? 1;
    this.seed = template.seed ?? 1;
    const { precision } = template;
    this.precision = precision === undefined ? null : { confidence: 0.95, minimum: 3, ...precision };
  }

  get engine(): string {
    return this.options.engine;
  }
  get runs(): number {
    return this.combinations * this.repetitions;
  }
  combinationOf(run: number): number {
    return Math.floor((run - 1) / this.repetitions);
  }
  repetitionOf(run: number): number {
    return (run - 1) % this.repetitions;
  }
  numberOf(combination: number, repetition: number): number {
    return combination * this.repetitions + repetition + 1;
  }
  /** Values as they are shown with runs: long ones, as whole documents, are cut texts. */
  shownValues(combination: number): Record<string, unknown> {
    const indices = indicesOf(this.axes, combination);
    this.shown ??= this.axes.map(({ values }) =>
      values.map((value) => ((JSON.stringify(value)?.length ?? 0) > MOST_SHOWN ? valueText(value, MOST_SHOWN) : value)),
    );
    return Object.fromEntries(this.axes.map(({ name }, i) => [name, this.shown?.[i]?.[indices[i]!]]));
  }
  /** The value of each axis. */
  valuesOf(combination: number): unknown[] {
    const indices = indicesOf(this.axes, combination);
    return this.axes.map(({ values }, i) => values[indices[i]!]);
  }

  /**
   * Every combination's document and traffic, one combination for each step; returns what is wrong with them, each fault once,
   * with the first combination that has it. With `skipInvalid` combinations that cannot be built are left out instead; where none
   * is left, that is a fault.
   */
  *check(): Generator<void, SchemaFault[]> {
    const found = new Found(this.axes);
    const { skipInvalid = false } = this.template;
    for (let combination = 0; combination < this.combinations; combination++) {
      // What is left out must be known of every one.
      if (found.full && !skipInvalid) break;
      const made = this.combination(combination);
      if (!made.ok) {
        found.add(combination, made.faults);
        if (skipInvalid) this.skipped.add(combination);
      }
      yield;
    }
    if (!skipInvalid) return found.list(this.combinations);
    if (this.skipped.size < this.combinations) return [];
    return [{ pointer: '/axes', detail: 'no combination can be built' }, ...found.list(this.combinations)];
  }

  /** The document, traffic and profile of a combination, checked. Pointers of faults lead into the template as users wrote it. */
  combination(combination: number): Combination {
    const applied = applyAxes(this.template.template, this.axes, combination);
    if (!applied.ok) return { ok: false, faults: [applied.fault] };
    const { parts, places } = applied.applied;
    const made = this.jobOf(parts);
    if (made.ok) return made;
    return { ok: false, faults: made.faults.map((fault) => this.traced(fault, places, combination)) };
  }
  /** A fault of a combination's document, where it comes from: an axis's value, or the template. */
  private traced(fault: SchemaFault, places: readonly (readonly string[])[], combination: number): SchemaFault {
    // The later axis has the last word.
    const i = places.findLastIndex((of) => of.some((at) => fault.pointer === at || fault.pointer.startsWith(`${at}/`)));
    if (i < 0) return { ...fault, pointer: `/template${fault.pointer}` };
    const { name, values, place } = this.axes[i]!;
    const index = indicesOf(this.axes, combination)[i]!;
    const detail = `axis ${name}, value ${valueText(values[index], 80)}, at ${fault.pointer}: ${fault.detail}`;
    return { ...fault, pointer: `/axes/${i}${place(index)}`, detail };
  }
  private jobOf(parts: TemplateParts): Combination {
    const misfit = misfitOf(parts);
    if (misfit !== null) return { ok: false, faults: [misfit] };
    const parsed = this.parse(parts);
    if (!parsed.ok) {
      const faults = parsed.faults.map(({ pointer, detail, expected }) => ({
        pointer: `/topology${pointer}`,
        detail,
        ...(expected === undefined ? {} : { expected }),
      }));
      return { ok: false, faults };
    }
    const { topology, document } = parsed;
    if (topology.clock === 'real') {
      const detail = 'runs of an experiment are not paced: they would not be repeatable';
      return { ok: false, faults: [{ pointer: '/topology/clock/mode', detail, expected: 'work' }] };
    }
    const traffic = parts.traffic ?? [];
    const { measure } = parts;
    const faults = trafficFaults(traffic, topology, measure !== undefined);
    if (faults.length > 0) return { ok: false, faults };
    const requests = traffic as readonly unknown[] as readonly JobTraffic[];
    if (measure !== undefined) faults.push(...measureFaults(measure, requests, topology));
    if (faults.length > 0) return { ok: false, faults };
    const { name, costs } = topology.costProfile;
    const profile = this.profiles.get(name) ?? { name, costs: costTable({}, costs) };
    this.profiles.set(name, profile);
    return {
      ok: true,
      job: {
        engine: this.options.engine,
        document: { ...document, seed: this.seed },
        profile,
        traffic: requests,
        ...(measure === undefined ? {} : { measure: measure as MeasureBody }),
        maxEvents: this.maxEvents,
      },
    };
  }

  /** Combinations that differ in their traffic have one document. */
  private parse({ topology }: TemplateParts): ParsedTopology {
    const text = JSON.stringify(topology);
    const known = this.parsed.get(text);
    if (known !== undefined) return known;
    const { maxGuests, profiles } = this.options;
    const parsed = parseTopology(withJobRings(topology), {
      knownCosts: COST_NAMES,
      // A document without a name has one here: it takes no part in what comes out.
      ...(Object.hasOwn(topology, 'name') ? {} : { name: 'job' }),
      ...(maxGuests === undefined ? {} : { limits: { maxGuests } }),
      ...(profiles === undefined ? {} : { profiles }),
    });
    this.parsed.keep(text, parsed, text.length);
    return parsed;
  }

  /** A run of a combination that can be built; throws where it cannot. */
  run(number: number): PlannedRun {
    const combination = this.combinationOf(number);
    const repetition = this.repetitionOf(number);
    const seed = this.seed + repetition;
    const { job, keys } = this.keep(combination);
    const own: JobSpec = { ...job, document: { ...job.document, seed } };
    return { number, combination, repetition, seed, key: keys.of(seed), job: own };
  }
  private keep(combination: number): Kept {
    const known = this.kept.get(combination);
    if (known !== undefined) return known;
    const made = this.combination(combination);
    if (!made.ok) throw new Error(`combination ${combination} cannot be built: ${made.faults[0]?.detail ?? ''}`);
    const kept = { job: made.job, keys: new JobKeys(made.job) };
    this.kept.keep(combination, kept, kept.keys.characters);
    return kept;
  }
}

/** An axis may put anything in the place of a whole part. */
function misfitOf({ topology, traffic = [] }: TemplateParts): SchemaFault | null {
  if (typeof topology !== 'object' || topology === null || Array.isArray(topology))
    return { pointer: '/topology', detail: 'is no object', expected: 'a topology document' };
  if (!Array.isArray(traffic)) return { pointer: '/traffic', detail: 'is no list', expected: 'traffic requests' };
  return null;
}

interface Kept {
  readonly job: JobSpec;
  readonly keys: JobKeys;
}

interface Seen {
  readonly fault: SchemaFault;
  /** The first and the last combination that has it, and how many have. */
  readonly first: number;
  last: number;
  combinations: number;
}
/** Faults of combinations, each once. */
class Found {
  private readonly axes: readonly Axis[];
  private readonly faults = new Map<string, Seen>();

  constructor(axes: readonly Axis[]) {
    this.axes = axes;
  }
  get full(): boolean {
    return this.faults.size >= MOST_FAULTS;
  }
  add(combination: number, faults: readonly SchemaFault[]): void {
    for (const fault of faults) {
      // Of an axis one place is enough, of which it says the same.
      const key = `${fault.pointer} ${fault.detail.slice(fault.detail.indexOf(': ') + 1)}`;
      const known = this.faults.get(key);
      if (known === undefined && this.full) continue;
      if (known !== undefined) {
        if (known.last !== combination) known.combinations++;
        known.last = combination;
      } else this.faults.set(key, { fault, first: combination, last: combination, combinations: 1 });
    }
  }
  list(all: number): SchemaFault[] {
    return [...this.faults.values()].map(({ fault, first, combinations }) => {
      if (this.axes.length === 0 || combinations === all) return fault;
      const more = combinations === 1 ? '' : ` (and ${combinations - 1} more combinations)`;
      return { ...fault, detail: `${fault.detail}, with ${combinationText(this.axes, first)}${more}` };
    });
  }
}
