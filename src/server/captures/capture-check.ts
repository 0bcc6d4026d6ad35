/** What a schema cannot say about a capture request: the names in it have to exist in the world, limits have to fit each other. */
import { holdableEvents } from '../../engine/hold.ts';
import { Capture, UnknownPointError } from '../../readers/capture/capture.ts';
import { EventFilter, EventFilterError, type EventFilterQuery } from '../../readers/events/event-filter.ts';
import { filterOf } from '../events/event-filter.ts';
import { type Fault, invalid, Problem } from '../problem.ts';
import type { World } from '../world.ts';
import { type CaptureSpec, limitsOf } from './capture-spec.ts';

/** The body of a request with its defaults. */
export interface CaptureRequestBody extends Omit<CaptureSpec, 'epochNs'> {
  readonly name: string | null;
}

/** Throws a problem that names the field. */
export function specOf(body: CaptureRequestBody, world: World): CaptureSpec {
  const { name, ...wanted } = body;
  if (name !== null && /^capture-\d+$/.test(name)) {
    throw invalid('/name', `'${name}' is a name that the server gives`, 'another name, or none');
  }
  const { file, trigger } = wanted;
  if (file.ring && (file.maxFiles === null || (file.maxBytes === null && file.maxPackets === null))) {
    throw invalid('/file/ring', 'a ring of files needs limits', 'maxFiles, and maxBytes or maxPackets, beside it');
  }
  const { catalog } = world.shared;
  const spec: CaptureSpec = { ...wanted, filter: filterOf(wanted.filter), epochNs: catalog.epochNs };
  check('/filter', () => new Capture(world.openReader(), limitsOf(spec).options));
  if (trigger === null) return spec;
  const on = filterOf(trigger.on);
  check('/trigger/on', () => new EventFilter(catalog, on));
  if (isEmpty(on)) throw invalid('/trigger/on', 'is empty: every event would match', 'some of events, places, role …');
  const most = Math.floor(holdableEvents(catalog.layout) / 2);
  if (trigger.before > most) {
    const detail = `${trigger.before} events are more than a quarter of what this world's ring holds`;
    throw invalid('/trigger/before', detail, `at most ${most}, or a larger recorder.events in the topology`);
  }
  return { ...spec, trigger: { ...trigger, on } };
}

const isEmpty = (filter: EventFilterQuery): boolean => Object.keys(filter).length === 0;

/** Faults of the readers as problems. `at`: where the filter's parameters are in the body. */
function check(at: string, open: () => unknown): void {
  try {
    open();
  } catch (error) {
    const valid = (error as { valid?: readonly string[] }).valid ?? [];
    const expected = valid.length === 0 ? {} : { expected: valid.slice(0, 100).join(', ') };
    let pointer: string;
    if (error instanceof EventFilterError) pointer = `${at}/${error.parameter}`;
    else if (error instanceof UnknownPointError) pointer = '/points';
    else throw error;
    const fault: Fault = { pointer, detail: error.message, ...expected };
    throw new Problem('RINGSIDE_E_VALIDATION', error.message, { errors: [fault] });
  }
}
