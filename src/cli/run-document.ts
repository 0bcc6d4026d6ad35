/**
 * What `ringside run` is given, as one job: a document with topology and traffic, or a topology with the traffic beside it. The
 * form is that of an experiment's template, and so are the checks.
 */
import { existsSync } from 'node:fs';
import { type ProfileBook, SHIPPED_PROFILES } from '../engine/cost-profile.ts';
import { parseCostProfile } from '../lab/cost-profile-document.ts';
import { planExperiment, type RunLimits } from '../lab/experiment/plan.ts';
import { engineVersion } from '../lab/job/engine-version.ts';
import type { JobSpec } from '../lab/job/job.ts';
import type { SchemaFault } from '../lab/schema-faults.ts';
import { PROFILE_PATTERN } from '../lab/units.ts';
import { badDocument, CliError } from './cli-error.ts';
import { isObject, parsedText, readDocument } from './files.ts';

export interface RunInput {
  readonly path: string;
  /** Files or texts with a request or a list of them. */
  readonly traffic: readonly string[];
  /** `pointer=value`. */
  readonly set: readonly string[];
  readonly seed: number | undefined;
  /** Name or file. */
  readonly profile: string | undefined;
}

const PRESET = 'preset:';
/** One run has the machine to itself; those of an experiment share it, and have less where nothing is said. */
const LIMITS = { memory: '4GiB', time: '3600s' } as const;
const TEMPLATE_FIELDS = ['topology', 'traffic', 'measure'] as const;

/** Throws CliError that names what is wrong by its place in the document. */
export function runJobOf(input: RunInput): { readonly job: JobSpec; readonly limits: RunLimits } {
  const { path } = input;
  const { template, others, wrapped } = templateOf(path);
  if (input.traffic.length > 0) template['traffic'] = input.traffic.flatMap((text) => trafficOf(text));
  const { profiles, axis } = profileOf(input.profile);
  const axes = [...axis, ...input.set.map(axisOf)];
  const seed = input.seed ?? others['seed'] ?? seedIn(template);
  const { name: _, limits, ...settings } = others;
  const all = isObject(limits) || limits === undefined ? { ...LIMITS, ...limits } : limits;
  const body = { ...settings, limits: all, template, axes, repetitions: 1, ...(seed === undefined ? {} : { seed }) };
  const planned = planExperiment(body, { engine: engineVersion(), maxRuns: 1, profiles });
  if (!planned.ok)
    throw badDocument(
      path,
      planned.faults.map((fault) => asWritten(fault, wrapped)),
    );
  const { plan } = planned;
  const made = plan.combination(0);
  if (!made.ok)
    throw badDocument(
      path,
      made.faults.map((fault) => asWritten(fault, wrapped)),
    );
  return { job: plan.run(1).job, limits: plan.limits };
}

interface Template {
  readonly template: Record<string, unknown>;
  /** Seed and limits. */
  readonly others: Record<string, unknown>;
  /** How many levels of the template the document does not have. */
  readonly wrapped: '' | '/template' | '/template/topology';
}

function templateOf(path: string): Template {
  if (path.startsWith(PRESET))
    return { template: { topology: { preset: path.slice(PRESET.length) } }, others: {}, wrapped: '/template' };
  const document = readDocument(path);
  if (!isObject(document)) throw new CliError(`${path} is no document: expected an object`);
  if (isObject(document['template'])) {
    const { template, axes, repetitions, precision, skipInvalid: _, ...others } = document;
    if (axes !== undefined || repetitions !== undefined || precision !== undefined)
      throw new CliError(`${path} is an experiment of several runs: use \`ringside experiment run\``);
    return { template: { ...(template as object) }, others, wrapped: '' };
  }
  if (!('topology' in document)) return { template: { topology: document }, others: {}, wrapped: '/template/topology' };
  const { topology, traffic, measure, ...others } = document;
  const parts = { topology, traffic, measure };
  const given = TEMPLATE_FIELDS.filter((field) => parts[field] !== undefined);
  return { template: Object.fromEntries(given.map((field) => [field, parts[field]])), others, wrapped: '/template' };
}

/** The seed that the topology has itself counts where nobody says another. */
function seedIn({ topology }: Record<string, unknown>): unknown {
  return isObject(topology) ? topology['seed'] : undefined;
}

/** A file, or the text itself: a request, or a list of them. */
function trafficOf(text: string): unknown[] {
  const inline = /^\s*[[{]/.test(text) || (text.includes(':') && !existsSync(text));
  const document = inline ? parsedText(text, 'yaml', '--traffic') : readDocument(text);
  const requests: unknown = isObject(document) && 'traffic' in document ? document['traffic'] : document;
  return Array.isArray(requests) ? requests : [requests];
}

interface OneValue {
  readonly name: string;
  readonly pointer: string;
  readonly values: readonly unknown[];
}

function axisOf(text: string, index: number): OneValue {
  const [, pointer, value] = /^(\/[^=]*)=(.*)$/s.exec(text) ?? [];
  if (pointer === undefined || value === undefined)
    throw new CliError(`--set ${text}: expected a JSON Pointer and a value, as /topology/seed=7`);
  return { name: `set${index + 1}`, pointer, values: [parsedText(value, 'yaml', `--set ${pointer}`) ?? null] };
}

/** Profiles that documents may name, and what sets the one that the command line asks for. */
function profileOf(profile: string | undefined): { profiles: ProfileBook; axis: OneValue[] } {
  if (profile === undefined) return { profiles: SHIPPED_PROFILES, axis: [] };
  const axis = (name: string): OneValue[] => [{ name: 'profile', pointer: '/topology/costProfile', values: [name] }];
  if (SHIPPED_PROFILES.has(profile)) return { profiles: SHIPPED_PROFILES, axis: axis(profile) };
  if (!existsSync(profile)) {
    const names = [...SHIPPED_PROFILES.keys()].join(', ');
    throw new CliError(`--profile ${profile}: neither a file nor one of ${names}`);
  }
  const document = readDocument(profile);
  const own = isObject(document) ? document['name'] : undefined;
  const parsed = parseCostProfile(document, typeof own === 'string' ? own : nameOf(profile));
  if (!parsed.ok) throw badDocument(profile, parsed.faults);
  const { sheet } = parsed;
  return { profiles: new Map([...SHIPPED_PROFILES, [sheet.name, sheet]]), axis: axis(sheet.name) };
}
/** A profile without a name is called as its file. */
function nameOf(path: string): string {
  const name = path
    .replace(/^.*\//, '')
    .replace(/\.(ya?ml|json)$/i, '')
    .toLowerCase();
  return new RegExp(PROFILE_PATTERN).test(name) ? name : 'profile';
}

/** The fault's pointer in the document as it was written; what `--set` and `--profile` set is told as they say it. */
function asWritten(fault: SchemaFault, wrapped: Template['wrapped']): SchemaFault {
  const { pointer } = fault;
  if (wrapped !== '' && pointer.startsWith(wrapped)) return { ...fault, pointer: pointer.slice(wrapped.length) };
  if (pointer.startsWith('/axes/')) return { ...fault, pointer: '(command line)' };
  return fault;
}
