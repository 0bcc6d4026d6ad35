/** The axes of an experiment: their combinations by number, and the template with one combination's values in it. */
import { PRESETS } from '../presets.ts';
import type { SchemaFault } from '../schema-faults.ts';
import { pointerOf, pointerParts, setAt } from './json-pointer.ts';
import type { AxisBody, ExperimentTemplateBody } from './template.ts';

export interface Axis {
  readonly name: string;
  /** Of an axis with cases their names. */
  readonly values: readonly unknown[];
  /** What a value sets. */
  readonly sets: (index: number) => readonly Assignment[];
  /** Where a value stands, from the axis on: `/values/0`, `/cases/name`. */
  readonly place: (index: number) => string;
}
export interface Assignment {
  readonly pointer: string;
  readonly value: unknown;
  /** Where the pointer stands, from the axis on. */
  readonly at: string;
}

/** Columns of the CSV that are no axes. */
export const RUN_COLUMNS = [
  'run',
  'combination',
  'repetition',
  'seed',
  'state',
  'reused',
  'digest',
  'wallSeconds',
  'problem',
] as const;

/** Axes with their names, and what is wrong with them. */
export function readAxes(bodies: readonly AxisBody[]): { axes: Axis[]; faults: SchemaFault[] } {
  const faults: SchemaFault[] = [];
  const axes = bodies.map((body, i): Axis => {
    const at = `/axes/${i}`;
    const forms = [body.pointer, body.pointers, body.cases].filter((form) => form !== undefined).length;
    if (forms !== 1) {
      const expected = 'pointer and values, pointers and values, or cases';
      faults.push({ pointer: at, detail: `an axis has one of pointer, pointers and cases, not ${forms}`, expected });
    } else if ((body.values === undefined) !== (body.cases !== undefined)) {
      const detail = body.cases === undefined ? 'its values are missing' : 'the values of cases stand in them';
      faults.push({ pointer: at, detail });
    }
    const axis = body.cases === undefined ? axisOfValues(body) : axisOfCases(body, body.cases);
    for (let index = 0; index < (body.cases === undefined ? 1 : axis.values.length); index++)
      for (const { pointer, at: place } of axis.sets(index)) faults.push(...misplaced(pointer, at + place));
    return axis;
  });
  for (const [i, { name }] of axes.entries()) {
    const first = axes.findIndex((axis) => axis.name === name);
    const expected = 'a name of its own';
    if (first < i)
      faults.push({ pointer: `/axes/${i}/name`, detail: `axis ${first} is called ${name}, too`, expected });
    else if ((RUN_COLUMNS as readonly string[]).includes(name))
      faults.push({ pointer: `/axes/${i}/name`, detail: `${name} is a column of every result`, expected });
  }
  return { axes, faults };
}

function axisOfValues({ name, pointer, pointers = [], values = [] }: AxisBody): Axis {
  const all = pointer === undefined ? pointers : [pointer];
  const sets = (index: number): Assignment[] =>
    all.map((one, j) => ({
      pointer: one,
      value: values[index],
      at: pointer === undefined ? `/pointers/${j}` : '/pointer',
    }));
  return { name: name ?? defaultName(all[0] ?? ''), values, sets, place: (index) => `/values/${index}` };
}
/** Cases in the order of their object's members: as written, but names that are whole numbers first. */
function axisOfCases({ name }: AxisBody, cases: NonNullable<AxisBody['cases']>): Axis {
  const entries = Object.entries(cases);
  const place = (index: number): string => `/cases${pointerOf([entries[index]?.[0] ?? ''])}`;
  const sets = (index: number): Assignment[] =>
    Object.entries(entries[index]?.[1] ?? {}).map(([pointer, value]) => ({
      pointer,
      value,
      at: place(index) + pointerOf([pointer]),
    }));
  return { name: name ?? 'case', values: entries.map(([one]) => one), sets, place };
}

function misplaced(pointer: string, where: string): SchemaFault[] {
  const [first, second, ...more] = pointerParts(pointer);
  if (first === 'topology' && second === 'seed' && more.length === 0)
    return [{ pointer: where, detail: 'seeds are given by seed and repetitions', expected: 'another field' }];
  if (first === 'topology' || ((first === 'traffic' || first === 'measure') && second !== undefined)) return [];
  if (first === 'traffic') return [];
  const expected = 'a pointer below /topology, /traffic or /measure';
  return [{ pointer: where, detail: `${pointer} is no field of the template`, expected }];
}
function defaultName(pointer: string): string {
  const named = pointerParts(pointer).filter((part) => /^[A-Za-z_][A-Za-z0-9_.-]{0,62}$/.test(part));
  return named.at(-1) ?? 'axis';
}

/** Combinations of all values; may be more than a number holds exactly. */
export function combinationsOf(axes: readonly Pick<Axis, 'values'>[]): number {
  return axes.reduce((product, { values }) => product * values.length, 1);
}

/** Which value each axis has in a combination; the last axis changes fastest. */
export function indicesOf(axes: readonly Axis[], combination: number): number[] {
  const indices = new Array<number>(axes.length).fill(0);
  let rest = combination;
  for (let i = axes.length - 1; i >= 0; i--) {
    const { length } = axes[i]!.values;
    indices[i] = rest % length;
    rest = Math.floor(rest / length);
  }
  return indices;
}

/** The values of a combination, for people: `backend = "vhost-net", frameSize = 64`. */
export function combinationText(axes: readonly Axis[], combination: number): string {
  const indices = indicesOf(axes, combination);
  return axes.map(({ name, values }, i) => `${name} = ${valueText(values[indices[i]!], 80)}`).join(', ');
}
/** A value of an axis as JSON; texts without quotes where `bare`. */
export function valueText(value: unknown, most: number, bare = false): string {
  const text = bare && typeof value === 'string' ? value : (JSON.stringify(value) ?? 'null');
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

export type TemplateParts = ExperimentTemplateBody['template'];
export interface Applied {
  readonly parts: TemplateParts;
  /** By axis, the places that it has set. */
  readonly places: readonly (readonly string[])[];
}
export type Application =
  | { readonly ok: true; readonly applied: Applied }
  | { readonly ok: false; readonly fault: SchemaFault };

/** Which of an axis's pointers say what the topology is, rather than what is in it: these are set before a preset is read. */
const CHOOSES = ['/topology', '/topology/preset'];

/** What axes may set in a combination's template, characters of JSON: several times what a request may have. */
const MOST_SET = 4 * 2 ** 20;

/** The template with the values of one combination. */
export function applyAxes(template: TemplateParts, axes: readonly Axis[], combination: number): Application {
  const parts = structuredClone(template) as { topology: Readonly<Record<string, unknown>> } & Record<string, unknown>;
  const places = axes.map((): string[] => []);
  const indices = indicesOf(axes, combination);
  const room = { left: MOST_SET };
  for (const chooses of [true, false]) {
    if (!chooses) {
      const fault = readPreset(parts);
      if (fault !== null) return { ok: false, fault: chosenBy(axes, indices, fault) };
    }
    for (const [i, axis] of axes.entries()) {
      for (const { pointer, value, at } of axis.sets(indices[i]!)) {
        if (CHOOSES.includes(pointer) !== chooses) continue;
        const set = setAt(parts, pointer, value, room);
        if ('problem' in set) {
          const detail = `${set.problem}, with ${combinationText(axes, combination)}`;
          return { ok: false, fault: { pointer: `/axes/${i}${at}`, detail } };
        }
        places[i]!.push(...set.places);
      }
    }
  }
  return { ok: true, applied: { parts, places } };
}
/** `{ preset: name }` becomes the preset's document. */
function readPreset(parts: { topology: Readonly<Record<string, unknown>> }): SchemaFault | null {
  const { topology } = parts;
  if (typeof topology !== 'object' || topology === null || !Object.hasOwn(topology, 'preset')) return null;
  const { preset: name, ...others } = topology;
  const preset = PRESETS.find((one) => one.name === name);
  const expected = `one of ${PRESETS.map((one) => one.name).join(', ')}`;
  if (preset === undefined)
    return { pointer: '/topology/preset', detail: `there is no preset ${valueText(name, 60)}`, expected };
  const more = Object.keys(others)[0];
  if (more !== undefined)
    return {
      pointer: `/topology/${more}`,
      detail: 'a topology is a preset or a document',
      expected: 'axes, or the document itself, to change a preset',
    };
  parts.topology = structuredClone(preset.document) as unknown as Readonly<Record<string, unknown>>;
  return null;
}
function chosenBy(axes: readonly Axis[], indices: readonly number[], fault: SchemaFault): SchemaFault {
  const i = axes.findIndex((axis, j) => axis.sets(indices[j]!).some(({ pointer }) => CHOOSES.includes(pointer)));
  const of = i < 0 ? '/template' : `/axes/${i}${axes[i]!.place(indices[i]!)}`;
  return { ...fault, pointer: i < 0 ? of + fault.pointer : of };
}
